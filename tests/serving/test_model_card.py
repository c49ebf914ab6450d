"""The card of a model: what hubs read in its head, what a reader sees, and that names only show themselves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from mlflow_parts import CLASSES, random_model
from ruamel.yaml import YAML

from nla.commands.card import main
from nla.errors import CommandError, DataError, WeightsError
from nla.io import sha256
from nla.models.calibration import Calibration
from nla.models.saved_model import read_card
from nla.serving import Predictor
from nla.serving.model_card import Results, model_card
from nla.tracking.run_record import RunRecord

HEAD = re.compile(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\r|\n|$))")
"""How Hugging Face's client finds the head."""
SPLIT: dict[str, Any] = {
    "rows": 800,
    **dict.fromkeys(("accuracy", "mean_accuracy", "macro_f1"), 0.75),
    "accuracy_low": 0.7,
    "accuracy_high": 0.8,
    "nll": 0.6,
    "ece": 0.08,
    "calibrated": {"nll": 0.5, "ece": 0.02, "aurc": 0.1},
    "classes": {CLASSES[0]: {"recall": 0.5, "precision": 0.5, "f1": 0.5, "support": 400}},
}
CALIBRATION = {
    "method": "temperature",
    "temperature": 1.5,
    "uniform": 0.0,
    "rows": 800,
    "nll": {"none": 0.6, "temperature": 0.5, "temperature_uniform": 0.51},
    "standard_error": {"none": 0.01, "temperature": 0.0, "temperature_uniform": 0.001},
}
RUN: dict[str, Any] = {
    "mlflow_run_id": None,
    "fingerprint": "f0",
    "name": "n",
    "params": {
        "data": {"source": "synthetic", "label_rule": "majority", "noise": {"rate": 0.3}},
        "loss": {"name": "nla"},
        "model": {"weights": "/home/someone/faces.pth"},
        "augment": {"recipe": "affine"},
    },
    "tags": {},
    "facts": {},
    "history": [],
}


def read(text: str) -> tuple[dict[str, Any], str]:
    """The head as a hub reads it, and the page as HTML."""
    found = HEAD.match(text)
    assert found
    return YAML(typ="safe", pure=True).load(found[2]), MarkdownIt("gfm-like", {"linkify": False}).render(
        text[found.end() :]
    )


def project(folder: Path) -> Path:
    """A folder with models/, reports/metrics.json and run.json."""
    weights = random_model(folder / "models") / "model.safetensors"
    card = weights.with_suffix(".json")
    known = json.loads(card.read_text())
    known.pop("checksum", None)
    card.write_text(json.dumps({**known, "calibration": CALIBRATION}))
    (folder / "reports").mkdir()
    metrics = {"sha256": sha256(weights), "protocol": "clean labels", "test": SPLIT, "valid": SPLIT}
    (folder / "reports/metrics.json").write_text(json.dumps(metrics))
    (folder / "run.json").write_text(json.dumps(RUN))
    return folder


def test_a_folder_for_a_hub_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project(tmp_path))
    main(["out", "--license", "cc-by-nc-4.0"])
    assert sorted(path.name for path in Path("out").iterdir()) == ["README.md", "model.json", "model.safetensors"]
    assert "warning" not in capsys.readouterr().err
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16), np.uint8)
    ours, theirs = (Predictor.load(folder).predict(images) for folder in ("models", "out"))
    np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)
    assert Predictor.load("out").calibration == Calibration(1.5)
    assert not np.allclose(theirs.probabilities, theirs.uncalibrated)
    head, page = read(Path("out/README.md").read_text())
    assert head["license"] == "cc-by-nc-4.0" and "license_name" not in head
    assert head["pipeline_tag"] == "image-classification"
    (entry,) = head["model-index"]
    (result,) = entry["results"]
    assert entry["name"] == "nla-synthetic" and result["dataset"] == {
        "type": "synthetic",
        "name": "synthetic",
        "split": "test",
    }
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {
        "accuracy": 0.75,
        "balanced_accuracy": 0.75,
        "f1": 0.75,
        "nll": 0.5,
        "expected_calibration_error": 0.02,
    }
    for said in ("Art. 5(1)(f)", "An expression is not a feeling", "75.00% (70.00% to 80.00%)", "temperature 1.500"):
        assert said in page
    assert "faces.pth" in page and "/home/someone" not in page
    main(["out"])
    assert read(Path("out/README.md").read_text())[0]["license"] == "other", "a later card replaces it"


def test_the_code_of_the_card_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(tmp_path))
    main(["out"])
    monkeypatch.chdir("out")
    code = re.search(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    assert code and len(code[1].splitlines()) == 5
    import cv2

    cv2.imwrite("face.jpg", np.full((20, 20), 128, np.uint8))
    known: dict[str, Any] = {}
    exec(code[1], known)
    assert known["found"].label[0] in CLASSES


def test_records_of_another_model_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project(tmp_path))
    metrics = json.loads(Path("reports/metrics.json").read_text())
    Path("reports/metrics.json").write_text(json.dumps({**metrics, "sha256": "0" * 64}))
    Path("run.json").write_text(json.dumps({**RUN, "fingerprint": "f1"}))
    main(["out"])
    said = capsys.readouterr().err
    assert "reports/metrics.json is missing, or of another model: the card lacks the results" in said
    assert "run.json is missing, or of another model: the card lacks the training" in said
    head, page = read(Path("out/README.md").read_text())
    assert "model-index" not in head and "75.00%" not in page and "not at hand" in page


def test_nothing_is_written_over_or_from_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(tmp_path))
    with pytest.raises(CommandError, match="models: is the folder of the model itself"):
        main(["models"])
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("")
    with pytest.raises(CommandError, match=r"must be new or hold a card alone \(got 'thesis\.tex' too\)"):
        main(["mine"])
    Path("reports/metrics.json").write_text('{"test": {"accuracy": "high"}, "valid": {}}')
    with pytest.raises(DataError, match=r"metrics\.json: test\.accuracy"):
        main(["out"])
    content = bytearray(Path("models/model.safetensors").read_bytes())
    content[-1] ^= 1
    Path("models/model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="sha256"):
        main(["out"])
    assert not Path("out").exists()


names = st.one_of(
    st.text(min_size=1, max_size=40),
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            "[a](http://evil.example)",
            "![a](http://evil.example/x.png)",
            "http://evil.example",
            "www.evil.example",
            "a@evil.example",
            "a\n---\nlicense: mit\n---\n# b",
            "x: y",
            "- a",
            "&lt;b&gt;",
            "`rm`",
            "a | b",
            "**a**",
            "$x$",
            '"\\',
            "!!python/object/apply:os.system [ls]",
            "\u202eabc",
        ]
    ),
)


@settings(max_examples=20)
@given(names, names, names)
def test_names_only_show_themselves(source: str, name: str, protocol: str) -> None:
    card = {
        **CARD,
        "source": source,
        "classes": [name, "b"],
        "calibration": {"temperature": 1.5},
    }
    results = Results.model_validate(
        {"protocol": protocol, "test": {**SPLIT, "classes": {name: {"recall": 0.5}}}, "valid": SPLIT}
    )
    run = {**RUN, "params": {**RUN["params"], "loss": {"name": name}, "model": {"weights": name}}}
    text = model_card(card, results, RunRecord.model_validate(run), source)
    plain = model_card(
        {**CARD, "source": "s", "classes": ["a", "b"], "calibration": {"temperature": 1.5}},
        Results.model_validate({"protocol": "p", "test": {**SPLIT, "classes": {"a": {"recall": 0.5}}}, "valid": SPLIT}),
        RunRecord.model_validate(
            {**RUN, "params": {**RUN["params"], "loss": {"name": "a"}, "model": {"weights": "w"}}}
        ),
        "s",
    )
    (head, page), (expected, other) = read(text), read(plain)
    assert list(head) == list(expected) or source == "other"
    assert head["model-index"][0]["results"][0]["metrics"] == expected["model-index"][0]["results"][0]["metrics"]
    tags = re.compile(r"<[^>]*>")
    assert tags.findall(page) == tags.findall(other), "no element more, none less"
    assert page.count("\n") == other.count("\n")


CARD: dict[str, Any] = {}


@pytest.fixture(autouse=True, scope="module")
def known_card(tmp_path_factory: pytest.TempPathFactory) -> None:
    CARD.update(read_card(random_model(tmp_path_factory.mktemp("m")) / "model.safetensors"))
