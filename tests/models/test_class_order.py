"""Names of classes are never taken by position: who reorders or renames them in one file is told so by each reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow.pyfunc.model import PythonModelContext
from mlflow_parts import CLASSES, random_model, write_samples
from safetensors.torch import load_file, save_file

from nla.commands.export import main as export
from nla.commands.measure import main as measure
from nla.config.ray import RayConfig
from nla.errors import DataError, WeightsError
from nla.io import sha256
from nla.models.saved_model import load_model, require_same
from nla.serving import Predictor
from nla.serving.pyfunc import ServedModel
from nla.training.artifacts import read_tables

READERS: dict[str, Callable[[Path], object]] = {
    "evaluate": lambda models: load_model(models / "model.safetensors"),
    "predictor": Predictor.load,
    "served model": lambda models: ServedModel().load_context(
        PythonModelContext({"weights": str(models / "model.safetensors")}, {})
    ),
    "onnx": lambda models: export([str(models / "model.onnx"), "--model", str(models)]),
    "measure": lambda models: measure([str(models / "test.parquet"), "--model", str(models)]),
}
CHANGES = {
    "reordered": ["happiness", "neutral", "surprise"],
    "renamed": ["neutral", "joy", "surprise"],
    "by the alphabet": sorted(CLASSES),
}


def with_classes(models: Path, classes: list[str]) -> None:
    """Edits the card as somebody who means it, and so removes the checksum."""
    card = json.loads((models / "model.json").read_text())
    del card["checksum"]
    (models / "model.json").write_text(json.dumps(card | {"classes": classes}))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("reader", READERS)
def test_each_reader_of_a_model_notices_other_names(tmp_path: Path, reader: str, change: str) -> None:
    models = random_model(tmp_path)
    write_samples(tmp_path / "test.parquet", [0, 1, 2])
    with_classes(models, CHANGES[change])
    before = sorted(models.iterdir())
    with pytest.raises(WeightsError) as caught:
        READERS[reader](models)
    message = str(caught.value)
    assert message.startswith(f"{models / 'model.json'}: classes: the weights were saved with {json.dumps(CLASSES)}, ")
    assert f"(got {json.dumps(CHANGES[change])}). Restore the card. Or: Run `dvc repro -sf train`." in message
    assert sorted(models.iterdir()) == before


def test_the_same_names_in_an_edited_card_are_no_fault(tmp_path: Path) -> None:
    with_classes(random_model(tmp_path), list(CLASSES))
    assert Predictor.load(tmp_path).classes == CLASSES


def test_weights_of_earlier_versions_have_no_names_and_are_read(tmp_path: Path) -> None:
    weights = random_model(tmp_path) / "model.safetensors"
    save_file(load_file(weights), weights)
    card = json.loads((tmp_path / "model.json").read_text())
    del card["checksum"]
    (tmp_path / "model.json").write_text(json.dumps(card | {"sha256": sha256(weights)}))
    assert Predictor.load(tmp_path).classes == CLASSES


@pytest.mark.parametrize("change", CHANGES)
def test_a_table_with_other_names_than_the_model_is_noticed(change: str) -> None:
    with pytest.raises(DataError, match=r"test\.parquet: the model was trained on tiny with classes neutral, happ"):
        require_same(("tiny", CLASSES), ("tiny", CHANGES[change]), Path("test.parquet"))


@pytest.mark.parametrize(
    ("classes", "source", "size", "what"),
    [
        (("happiness", "neutral", "surprise"), "synthetic", 16, "classes"),
        (CLASSES, "folder", 16, "source"),
        (CLASSES, "synthetic", 20, "images"),
    ],
)
def test_tables_of_two_runs_of_prepare_are_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...], source: str, size: int, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_samples(Path("data/train.parquet"), [0, 1, 2])
    write_samples(Path("data/valid.parquet"), [0, 1, 2], classes=classes, source=source, size=size)
    with pytest.raises(DataError, match=rf"data/valid\.parquet: {what}: must be .*, as in data/train\.parquet \(got "):
        read_tables(RayConfig(), tmp_path)
    write_samples(Path("data/valid.parquet"), [2, 1])
    assert np.array_equal(read_tables(RayConfig(), tmp_path).split.valid.label_N, [2, 1])
