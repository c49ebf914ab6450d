"""The stage that makes a study's report, on a made-up study in a folder of its own; and its pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_study import CLASSES, labels, made_up, truths
from matplotlib.figure import Figure
from matplotlib.text import Text

from nla.data.images import encode_png
from nla.data.schema import FACES, TableInfo, with_info
from nla.errors import DataError
from nla.study.plots import draw_figures
from nla.study.record import read_record, write_record
from nla.study.results import study_results
from pipelines import study_report

SUPPORT = (40, 30, 20, 20, 10, 5, 5, 2)
MORE = {
    "clean": ("symmetric", 0.0, None),
    "symmetric 10 %": ("symmetric", 0.1, None),
    "symmetric 30 %": ("symmetric", 0.3, None),
    "asymmetric 20 %": ("asymmetric", 0.2, None),
    "clean, 50 to 1": ("symmetric", 0.0, 50.0),
    "symmetric 30 %, 50 to 1": ("symmetric", 0.3, 50.0),
}
PICTURES = {
    "accuracy_by_noise",
    "mean_accuracy_by_noise",
    "difference_from_hardest_other",
    "best_on_test",
    "flipped_by_weight",
}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study that has ended, as the working folder; one of its methods was called otherwise when it was trained."""
    folder = tmp_path / "made-up"
    rows = []
    for record in made_up(seeds=(0, 1), support=SUPPORT):
        write_record(folder / f"records/{record.fingerprint}.parquet", record)
        method = {"elr": "early learning"}.get(record.method, record.method)
        rows.append(
            {"method": method, "condition": record.condition, "seed": record.seed, "record": record.fingerprint}
        )
    (folder / "runs.json").write_text(json.dumps({"reference": "ce", "runs": rows}))
    write_faces(folder / "data/faces.parquet", labels(SUPPORT))
    monkeypatch.chdir(folder)
    return folder


def write_faces(path: Path, label_N: np.ndarray) -> None:
    """A table as `ingest` writes it, of black images: test with these labels, train and valid with each class once."""
    image = {"bytes": encode_png(np.zeros((16, 16), np.uint8)), "path": None}
    others = [(split, label) for split in ("train", "valid") for label in range(len(CLASSES))]
    splits = [*others, *(("test", label) for label in label_N.tolist())]
    rows = [
        {"row": row, "split": split, "label": label, "pixels": row.to_bytes(16, "big"), "image": image}
        for row, (split, label) in enumerate(splits)
    ]
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, with_info(FACES, TableInfo("made-up", CLASSES))), path)


def test_writes_figures_tables_and_draw_figures(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study_report.main()
    results = json.loads((study / "results.json").read_text())
    assert list(results["conditions"]["clean"]["methods"]) == ["ce", "early learning", "paper"]
    assert {path.stem for path in (study / "figures").iterdir()} == PICTURES
    text = (study / "README.md").read_text()
    assert text.startswith("# made-up\n") and "| early learning | 2 |" in text
    assert all((study / path).is_file() for path in (f"figures/{name}.png" for name in PICTURES))
    assert "clean: highest mean of accuracy" in capsys.readouterr().out


def test_tuning_has_a_table(study: Path) -> None:
    manifest = json.loads((study / "runs.json").read_text())
    runs = sorted(
        (run for run in manifest["runs"] if run["seed"] == 1 and run["condition"] == "clean"),
        key=lambda run: read_record(study / f"records/{run['record']}.parquet").score("accuracy"),
    )
    worst, _, best = (run["method"] for run in runs)
    trainings = [{**run, "setting": 0, "values": {}} for run in runs] + [
        {**better, "method": run["method"], "setting": 1, "values": {"train.lr": 0.012345, "train.optimizer": "sgd"}}
        for run, better in pairwise(runs)
    ]
    broken = {"method": "broken", "condition": "clean", "seed": 1}
    trainings.append({**broken, "setting": 0, "record": None, "values": {}})
    trainings.append({**broken, "setting": 1, "record": runs[0]["record"], "values": {"a": 1}})
    manifest["tuning"] = {"conditions": ["clean"], "seed": 1, "objective": "accuracy", "trainings": trainings}
    (study / "runs.json").write_text(json.dumps(manifest))
    study_report.main()
    tuning = json.loads((study / "results.json").read_text())["tuning"]
    text = (study / "README.md").read_text()
    first, second = (100 * each["reached"] for each in tuning["methods"][worst]["settings"])
    assert first < second
    assert f"| {worst} | 2 | {first:.2f} | {second:.2f} | train.lr 0.0123, train.optimizer sgd |" in text
    assert "\n\nAVX2 in fp32; 2 cores" in text.split("## clean")[0]
    (only,) = (100 * each["reached"] for each in tuning["methods"][best]["settings"])
    assert f"| broken | 2 | diverged | {first:.2f} | a 1 |" in text
    assert f"| {best} | 1 | {only:.2f} | {only:.2f} | as in the grid |" in text
    assert "trained under clean, with seed 1" in text


def test_tuning_under_two_conditions_shows_each(study: Path) -> None:
    """And that a method had nothing to tune."""
    manifest = json.loads((study / "runs.json").read_text())
    runs = {run["condition"]: run for run in manifest["runs"] if (run["method"], run["seed"]) == ("paper", 1)}
    reached = {
        condition: 100 * read_record(study / f"records/{run['record']}.parquet").score("both")
        for condition, run in runs.items()
    }
    alone = {"setting": 1, "values": {"a": 1}}  # diverged under one of them
    trainings = [{**run, "setting": 0, "values": {}} for run in runs.values()]
    trainings += [{**run, **alone, "record": run["record"] if name == "clean" else None} for name, run in runs.items()]
    manifest["tuning"] = {"conditions": [*runs], "seed": 1, "objective": "both", "trainings": trainings}
    (study / "runs.json").write_text(json.dumps(manifest))
    study_report.main()
    text = (study / "README.md").read_text()
    mean = sum(reached.values()) / len(reached)
    each = " | ".join(f"{value:.2f}" for value in reached.values())
    assert len(reached) == 2 and " | ".join(f"{name} (%)" for name in reached) in text
    assert f"| paper | 2 | {mean:.2f} | {mean:.2f} | {each} | as in the grid |" in text
    assert "| ce | 0 |  |  |  |  | nothing to tune |" in text
    assert "with the highest mean of accuracy and mean accuracy on validation, averaged over these conditions" in text


def test_a_second_report_has_the_same_bytes(study: Path) -> None:
    study_report.main()
    made = [study / "results.json", study / "README.md", *(study / "figures").iterdir()]
    before = [path.read_bytes() for path in made]
    study_report.main()
    assert [path.read_bytes() for path in made] == before


def test_claims_of_the_manifest_are_tested(study: Path) -> None:
    claim = {"method": "paper", "condition": "clean", "score": "accuracy", "against": ["ce"]}
    manifest = json.loads((study / "runs.json").read_text())
    (study / "runs.json").write_text(json.dumps({**manifest, "claims": [claim]}))
    study_report.main()
    (tested,) = json.loads((study / "results.json").read_text())["claims"]
    assert (tested["method"], tested["others"], tested["hardest"]) == ("paper", ["ce"], "ce")
    assert "| clean | accuracy | paper | ce | ce |" in (study / "README.md").read_text()


def test_a_record_that_the_manifest_does_not_name_is_left_out(study: Path) -> None:
    manifest = json.loads((study / "runs.json").read_text())
    manifest["runs"] = [run for run in manifest["runs"] if run["method"] != "paper"]
    (study / "runs.json").write_text(json.dumps(manifest))
    study_report.main()
    assert "paper" not in (study / "README.md").read_text()


def test_caveats_come_first_and_above_each_table(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    caveats = ["Equal epochs, not equal time.", "`ce` had nothing tuned."]
    manifest = json.loads((study / "runs.json").read_text())
    (study / "runs.json").write_text(json.dumps({**manifest, "caveats": caveats}))
    study_report.main()
    blocks = (study / "README.md").read_text().split("\n\n")
    assert blocks[2] == "- Equal epochs, not equal time.\n- `ce` had nothing tuned."
    tables = [i for i, block in enumerate(blocks) if block.startswith("| ")]
    assert len(tables) == 8
    assert {blocks[i - 1] for i in tables} == {"> Equal epochs, not equal time. `ce` had nothing tuned."}
    assert capsys.readouterr().out.endswith("caveat: `ce` had nothing tuned.\n")
    assert json.loads((study / "results.json").read_text())["caveats"] == caveats


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": 1}, r"runs\.json: reference: must be a valid string \(got 1\)"),
        ({"runs": [{"method": "ce"}]}, r"runs\.json: runs\.0\.condition: field required"),
        ({"claims": [{"method": "ce"}]}, r"runs\.json: claims\.0\.condition: field required"),
        ({"tuning": {"conditions": []}}, r"runs\.json: tuning\.seed: field required"),
    ],
)
def test_a_damaged_manifest_is_named_with_its_field(study: Path, change: dict[str, Any], message: str) -> None:
    manifest = json.loads((study / "runs.json").read_text())
    (study / "runs.json").write_text(json.dumps({**manifest, **change}))
    with pytest.raises(DataError, match=message):
        study_report.main()


def test_what_is_incomplete_is_left_out_and_named(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One method of one seed lacks its record: that condition has a single complete seed of two."""
    manifest = json.loads((study / "runs.json").read_text())
    lost = next(run for run in manifest["runs"] if (run["method"], run["condition"], run["seed"]) == ("ce", "clean", 1))
    (study / f"records/{lost['record']}.parquet").unlink()
    study_report.main()
    assert list(json.loads((study / "results.json").read_text())["conditions"]) == ["symmetric 30 %"]
    text = (study / "README.md").read_text()
    lines = ["clean, seed 1: no record of ce.", "clean: 1 complete seeds of 2, and 2 are needed."]
    assert "**Left out, as incomplete:**\n\n- " + "\n- ".join(lines) in text
    assert f"left out: {lines[0]}\n" in capsys.readouterr().out


@pytest.mark.parametrize("keep", [False, True])
def test_no_training(study: Path, keep: bool) -> None:
    for record in (study / "records").iterdir():
        record.unlink()
    if not keep:
        (study / "runs.json").write_text(json.dumps({"reference": "ce", "runs": []}))
    with pytest.raises(DataError, match=r"no condition has enough complete seeds.*Run `dvc repro`"):
        study_report.main()


def test_a_lost_record_of_the_tuning_is_named(study: Path) -> None:
    manifest = json.loads((study / "runs.json").read_text())
    run = {"method": "ce", "condition": "clean", "seed": 1, "record": "lost", "setting": 0, "values": {}}
    manifest["tuning"] = {"conditions": ["clean"], "seed": 1, "objective": "accuracy", "trainings": [run]}
    (study / "runs.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"missing records of the tuning: lost\.parquet"):
        study_report.main()


def test_a_record_of_other_code_in_a_table_is_refused(study: Path) -> None:
    path = next((study / "records").glob("ce-*.parquet"))
    record = read_record(path)
    write_record(path, replace(record, facts={**record.facts, "code": "0ther"}))
    with pytest.raises(DataError, match=rf"{record.condition}: records of different code .*{record.fingerprint}"):
        study_report.main()
    assert not (study / "results.json").exists()


@pytest.mark.parametrize("name", ["runs.json", "data/faces.parquet"])
def test_missing_inputs(study: Path, name: str) -> None:
    (study / name).unlink()
    with pytest.raises(DataError, match=rf"{name}(: file not found| is missing)\. Run"):
        study_report.main()
    assert not (study / "results.json").exists()


def test_another_data_set(study: Path) -> None:
    write_faces(study / "data/faces.parquet", labels(SUPPORT)[1:])
    with pytest.raises(DataError, match="132 test rows, but there are 131 labels"):
        study_report.main()


def legible(figure: Figure) -> None:
    """No text overlaps another one or is cut off."""
    boxes = {
        text: text.get_window_extent()
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text.get_rotation() in (0, 90)
    }
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                shown = low <= tick.get_loc() <= high
                hidden |= {label for label in (tick.label1, tick.label2) if not (shown and label.get_visible())}
    placed = {text: box for text, box in boxes.items() if text not in hidden}
    for text, box in placed.items():
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, f"cut: {text}"
    for (one, a), (other, b) in combinations(placed.items(), 2):
        apart = min(a.x1, b.x1) - max(a.x0, b.x0) <= 1 or min(a.y1, b.y1) - max(a.y0, b.y0) <= 1
        assert apart, f"overlap: {one} and {other}"


def test_pictures_of_a_large_study_are_legible() -> None:
    records = made_up({"ce": 1.0, "paper": 1.3, "a method of a long name": 1.1}, MORE, (0, 1), SUPPORT)
    found = draw_figures(study_results(records, truths(support=SUPPORT), "ce", ["Equal epochs."]))
    assert set(found) == PICTURES
    for figure in found.values():
        legible(figure)
    assert len(found["accuracy_by_noise"].axes) == 3
