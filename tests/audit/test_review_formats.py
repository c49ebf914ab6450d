"""An audit in the formats of other programs, and what comes back from them."""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from page_parts import Audited, audited

from nla.audit.exports import label_studio_config
from nla.audit.reviewed import read_review
from nla.commands.review import main
from nla.data.corrections import Correction, image_name, read_corrections
from nla.data.images import decode
from nla.data.prepare import prepare
from nla.errors import CommandError, DataError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    return audited(tmp_path_factory.mktemp("audited"), train=100)


def export(made: Audited, form: str, out: Path, *options: str) -> Path:
    main(["export", form, str(out), "--labels", str(made.labels), "--data", str(made.root), *options])
    return out


def rows(made: Audited) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["pixels"], row["label"]): row for row in pq.read_table(made.labels).to_pylist()}


def test_label_studio_gets_tasks_that_its_interface_can_show(made: Audited, tmp_path: Path) -> None:
    folder = export(made, "label-studio", tmp_path)
    tasks, table = json.loads((folder / "tasks.json").read_text()), rows(made)
    view = ElementTree.parse(folder / "config.xml").getroot()
    controls = {control.get("name"): control for control in view.iter("Choices")}
    choices = {name: {choice.get("value") for choice in control.iter("Choice")} for name, control in controls.items()}
    assert choices == {"label": set(made.classes), "action": {"drop"}}
    shown = {element.get("value") for element in view if element.tag in ("Image", "Text")}
    assert len(tasks) == len(table) and all(
        {name.lstrip("$") for name in shown} <= task["data"].keys() for task in tasks
    )
    for task in tasks:
        data, (prediction,) = task["data"], task["predictions"]
        row = table[data["hash"].removeprefix("blake2b:"), data["given"]]
        head, _, content = data["image"].partition(",")
        assert head == "data:image/jpeg;base64"
        image = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_UNCHANGED)
        stored = decode(made.samples(row["split"])[row["row"]]["image"]["bytes"])
        assert np.abs(image.astype(int) - stored).mean() < 4
        assert prediction["score"] == pytest.approx(1 - row["score"], abs=1e-4)
        (result,) = prediction["result"]
        assert (result["from_name"], result["to_name"], result["type"]) == ("label", "image", "choices")
        suggested = result["value"]["choices"]
        if row["verdict"] == "ambiguous":
            most = max(row[f"q_{name}"] for name in made.classes)
            assert suggested == [name for name in made.classes if row[f"q_{name}"] >= most / 2]
        else:
            assert suggested == [row["suggested"]]


def test_names_in_the_interface_are_escaped() -> None:
    names = ('<"&>', "a'b", "plain")
    found = ElementTree.fromstring(label_studio_config(names))
    assert tuple(choice.get("value") for choice in found.iter("Choice"))[:3] == names


def annotated(task: dict[str, Any], *labels: str, drop: bool = False, cancelled: bool = False) -> dict[str, Any]:
    """A task as Label Studio exports it, with one annotation."""
    item = {"id": "x", "to_name": "image", "type": "choices", "origin": "manual"}
    result = [item | {"from_name": "label", "value": {"choices": [*labels]}}] if labels else []
    result += [item | {"from_name": "action", "value": {"choices": ["drop"]}}] if drop else []
    annotation = {"id": 7, "completed_by": 1, "result": result, "was_cancelled": cancelled, "lead_time": 2.5}
    return task | {"id": 3, "annotations": [*task.get("annotations", []), annotation], "drafts": []}


def test_what_was_reviewed_in_label_studio_comes_back(made: Audited, tmp_path: Path) -> None:
    tasks = json.loads((export(made, "label-studio", tmp_path) / "tasks.json").read_text())
    given = [task["data"]["given"] for task in tasks]
    other = [next(name for name in made.classes if name != label) for label in given]
    tasks[0] = annotated(tasks[0], other[0])
    tasks[1] = annotated(tasks[1], given[1])
    tasks[2] = annotated(tasks[2], drop=True)
    tasks[3] = annotated(tasks[3], given[3], other[3])
    tasks[4] = annotated(tasks[4], other[4], cancelled=True)
    tasks[5] = annotated(annotated(annotated(tasks[5], given[5]), given[5]), other[5])
    tasks[6] = annotated(tasks[6])
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    main(["import", str(tmp_path / "export.json"), "--labels", str(made.labels), "--out", str(tmp_path / "c.csv")])
    found = read_corrections(tmp_path / "c.csv")
    assert found.problems == ()
    got = [(line.action, image_name(line.image), line.old, line.new, dict(line.shares)) for line in found.lines]
    hashes = [task["data"]["hash"] for task in tasks]
    assert [entry[:4] for entry in got] == [
        ("relabel", hashes[0], given[0], other[0]),
        ("keep", hashes[1], given[1], None),
        ("drop", hashes[2], given[2], None),
        ("distribution", hashes[3], given[3], got[3][3]),
        ("distribution", hashes[5], given[5], given[5]),
    ]
    assert got[3][4] == {given[3]: 0.5, other[3]: 0.5} and got[3][3] in (given[3], other[3])
    assert got[4][4] == pytest.approx({given[5]: 2 / 3, other[5]: 1 / 3}, abs=1e-3)
    report = prepare(made.root / "faces.parquet", tmp_path, made.config, corrections=found)
    assert sum(sum(counts.values()) for counts in report["corrections"]["splits"].values()) == 5


def test_all_that_does_not_fit_the_audit_is_named(made: Audited, tmp_path: Path) -> None:
    tasks = json.loads((export(made, "label-studio", tmp_path) / "tasks.json").read_text())
    spoilt = [annotated(task, made.classes[0]) for task in tasks[:4]]
    spoilt[0]["data"]["hash"] = "blake2b:" + 32 * "0"
    spoilt[1]["data"]["hash"] = "nonsense"
    spoilt[2] = annotated(tasks[2], "angre")
    spoilt[3] = annotated(annotated(tasks[3], made.classes[0]), drop=True)
    (tmp_path / "export.json").write_text(json.dumps(spoilt))
    with pytest.raises(DataError) as raised:
        read_review(tmp_path / "export.json", made.labels)
    text = str(raised.value)
    assert "4 faces do not fit the audit" in text and "unknown label 'angre': did you mean 'anger'?" in text
    assert "task 2: data.hash: not the hash of an image (got 'nonsense')" in text
    assert "task 4: annotators disagree whether to drop it" in text
    assert f"blake2b:{32 * '0'}: the audit has no such image labelled" in text


@pytest.mark.parametrize("content", ["[{}]", "{}", "3", "[", '{"labels": {}}', '[{"data": {"hash": 3, "given": "x"}}]'])
def test_another_file_is_refused(made: Audited, tmp_path: Path, content: str) -> None:
    (tmp_path / "export.json").write_text(content)
    with pytest.raises(DataError, match=r"export\.json: .*Label Studio as JSON, FiftyOne as"):
        read_review(tmp_path / "export.json", made.labels)


def test_fiftyone_gets_images_with_labels(made: Audited, tmp_path: Path) -> None:
    """As its documentation says: data/UUID.EXT, and labels.json with the names of the classes and UUID -> target."""
    folder = export(made, "fiftyone", tmp_path / "f", "--most", "40")
    content, table = json.loads((folder / "labels.json").read_text()), rows(made)
    assert content["classes"] == list(made.classes) and len(content["labels"]) == 40
    assert {path.name for path in (folder / "data").iterdir()} == {f"{name}.png" for name in content["labels"]}
    for name, target in content["labels"].items():
        pixels, _, label = name.partition("-")
        row = table[pixels, made.classes[int(label)]]
        assert made.classes[target["label"]] == row["label"]
        assert target["confidence"] == pytest.approx(row[f"p_{row['label']}"], abs=1e-4)
        assert {key: target["attributes"][key] for key in ("suggested", "verdict")} == {
            key: row[key] for key in ("suggested", "verdict")
        }
        stored = decode(made.samples(row["split"])[row["row"]]["image"]["bytes"])
        np.testing.assert_array_equal(decode((folder / "data" / f"{name}.png").read_bytes()), stored)


@pytest.mark.parametrize("as_numbers", [False, True])
def test_what_was_reviewed_in_fiftyone_comes_back(made: Audited, tmp_path: Path, as_numbers: bool) -> None:
    """It may write names of classes, or numbers in an order of its own; with confidence and attributes, or without."""
    content = json.loads((export(made, "fiftyone", tmp_path / "f", "--most", "40") / "labels.json").read_text())
    order = sorted(made.classes)
    write = order.index if as_numbers else str
    names, labels = list(content["labels"]), {}
    old = [made.classes[content["labels"][name]["label"]] for name in names]
    other = [next(label for label in made.classes if label != each) for each in old]
    for name, label in zip(names, old, strict=True):
        labels[name] = {"label": write(label), "confidence": 0.5, "attributes": {}}
    labels[names[0]] = write(other[0])
    labels[names[1]] = None
    labels[names[2]] = [write(old[2]), write(other[2])]
    del labels[names[3]]
    exported = {"labels": labels} | ({"classes": order} if as_numbers else {})
    (tmp_path / "labels.json").write_text(json.dumps(exported))
    found = read_review(tmp_path / "labels.json", made.labels)
    assert [(one.action, one.old, one.new) for one in found] == [
        ("relabel", old[0], other[0]),
        ("drop", old[1], None),
        ("distribution", old[2], old[2]),
    ]
    assert [one.image.hex() for one in found] == [name.partition("-")[0] for name in names[:3]]
    for wrong, what in (({"x-1": 3}, "x-1: no face of the audit"), ({names[0]: {"label": 99}}, "not a label")):
        (tmp_path / "labels.json").write_text(json.dumps({"labels": wrong}))
        with pytest.raises(DataError, match=what):
            read_review(tmp_path / "labels.json", made.labels)


def test_cleanlab_gets_its_columns(made: Audited, tmp_path: Path) -> None:
    with export(made, "cleanlab", tmp_path / "issues.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    table = pq.read_table(made.labels).to_pylist()
    assert list(found[0])[:4] == ["is_label_issue", "label_quality", "given_label", "predicted_label"]
    assert len(found) == len(table)
    for line, row in zip(found, table, strict=True):
        assert line["is_label_issue"] == str(row["verdict"] == "mislabelled")
        assert float(line["label_quality"]) == pytest.approx(1 - row["score"], abs=1e-5)
        assert made.classes[int(line["given_label"])] == row["label"] == line["given_class"]
        p = [row[f"p_{name}"] for name in made.classes]
        assert int(line["predicted_label"]) == int(np.argmax(p))
        assert (int(line["row"]), line["split"]) == (row["row"], row["split"])


def test_the_command_says_what_it_has_written(
    made: Audited, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(made, "fiftyone", tmp_path / "f", "--most", "3")
    assert capsys.readouterr().out == f"{tmp_path}/f: 3 of 204 audited labels\n"
    labels = json.loads((tmp_path / "f/labels.json").read_text())["labels"]
    (tmp_path / "back.json").write_text(json.dumps({"labels": {next(iter(labels)): None}}))
    main(["import", str(tmp_path / "back.json"), "--labels", str(made.labels), "--out", str(tmp_path / "c.csv")])
    assert capsys.readouterr().out == f"{tmp_path}/c.csv: 1 lines (1 drop)\n"
    (line,) = read_corrections(tmp_path / "c.csv").lines
    assert isinstance(line, Correction) and line.path
    with pytest.raises(SystemExit):
        main(["export", "fiftyone", "x", "--most", "0"])


def test_a_review_does_not_replace_other_corrections(made: Audited, tmp_path: Path) -> None:
    labels = json.loads((export(made, "fiftyone", tmp_path / "f", "--most", "3") / "labels.json").read_text())["labels"]
    first, second, _ = labels
    out = tmp_path / "c.csv"

    def review(*dropped: str) -> None:
        (tmp_path / "back.json").write_text(json.dumps({"labels": dict.fromkeys(dropped)}))
        main(["import", str(tmp_path / "back.json"), "--labels", str(made.labels), "--out", str(out)])

    out.write_text("image,old,action,new\n")
    review(first)
    review(first, second)
    before = out.read_bytes()
    with pytest.raises(CommandError, match=r"c\.csv has 1 lines that would be lost\. Name another file"):
        review(second)
    assert out.read_bytes() == before
    out.write_text("a list of my own\n")
    with pytest.raises(DataError, match=r"c\.csv, line 1: no column image"):
        review(first)
    assert out.read_text() == "a list of my own\n"
