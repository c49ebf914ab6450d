"""The package's own model: how `make pretrained` makes it, and what is in its place.

Until the real one is there, the second half looks at one from a training of a second.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow_parts import write_samples
from ruamel.yaml import YAML
from safetensors.numpy import load_file

from nla import Predictor, fit
from nla.config.base import read_params, section
from nla.config.data import DataConfig
from nla.config.evaluate import EvaluateConfig
from nla.config.ray import RayConfig
from nla.data.samples import load_samples
from nla.data.sources.ferplus import CLASSES
from nla.errors import ConfigError, DataError
from nla.models.classifier import Architecture, Classifier
from nla.models.default_model import SHIPPED, has_model
from nla.models.saved_model import read_card
from nla.tracking.run_record import RunRecord
from nla.training.job import image_spec, training_config
from pipelines import ship

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "pretrained/params.yaml"


def make_project(root: Path) -> None:
    """What the stages before `ship` leave in pretrained/, of random images and a network of width 4."""
    for seed, name in enumerate(("train", "valid", "test")):
        labels = np.random.default_rng(seed).integers(0, 8, 64 + 16 * seed).tolist()
        write_samples(root / f"data/{name}.parquet", labels, classes=CLASSES, source="ferplus")
    params = {"model": {"width": 4}, "train": {"precision": "fp32"}}
    result = fit(
        root / "data/train.parquet",
        root / "data/valid.parquet",
        epochs=2,
        batch_size=16,
        loss="ce",
        params=params,
        device="cpu",
        progress=False,
    )
    result.save(root / "models")
    facts = {"params": {"loss": {"name": "ce"}, "model": {}, "augment": {"recipe": "flip"}}, "tags": {}, "facts": {}}
    record = RunRecord(
        mlflow_run_id=None, fingerprint=result.card["fingerprint"], name="n", history=result.history, **facts
    )
    (root / "run.json").write_text(record.model_dump_json())
    (root / "params.yaml").write_text(PARAMS.read_text())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after the stage."""
    root = tmp_path_factory.mktemp("project")
    make_project(root / "pretrained")
    before = Path.cwd()
    os.chdir(root / "pretrained")
    try:
        ship.main()
    finally:
        os.chdir(before)
    return root


def test_the_weights_are_those_of_the_training_rounded(project: Path) -> None:
    ours = load_file(project / "nla/pretrained/model.safetensors")
    theirs = load_file(project / "pretrained/models/model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        expected = array.astype(np.float16) if array.dtype.kind == "f" else array
        np.testing.assert_array_equal(ours[name], expected)
        assert ours[name].dtype == expected.dtype


def test_all_figures_are_of_the_rounded_weights(project: Path) -> None:
    metrics = json.loads((project / "pretrained/metrics.json").read_text())
    predictor, samples = (
        Predictor.load(project / "nla/pretrained"),
        load_samples(project / "pretrained/data/test.parquet"),
    )
    found = predictor.predict(samples.images_NHWC[..., 0])
    right_N = np.array([CLASSES.index(name) for name in found.label]) == samples.label_N
    assert metrics["test"]["accuracy"] == pytest.approx(right_N.mean())
    nll = -np.log(found.probabilities[np.arange(len(samples)), samples.label_N].astype(float)).mean()
    assert metrics["test"]["calibrated"]["nll"] == pytest.approx(nll, abs=1e-5)
    original = Predictor.load(project / "pretrained/models").predict(samples.images_NHWC[..., 0])
    change = np.abs(original.uncalibrated - found.uncalibrated).max()
    assert metrics["half_precision"]["largest_difference"] == pytest.approx(change, abs=1e-6) and change < 0.01
    assert metrics["sha256"] == read_card(project / "nla/pretrained/model.safetensors")["sha256"]


def test_another_data_set_is_refused(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path / "pretrained")
    write_samples(tmp_path / "pretrained/data/test.parquet", [0, 1, 2], classes=CLASSES, source="rafdb")
    monkeypatch.chdir(tmp_path / "pretrained")
    with pytest.raises(DataError, match=r"test\.parquet: .*trained on ferplus .*\(got rafdb"):
        ship.main()
    assert not (tmp_path / "nla").exists()


def test_the_settings_fit_into_the_package() -> None:
    """Each is valid, all are on real faces and leave test alone, and the network stays below the limit by little."""
    params = read_params(PARAMS)
    config, data = training_config(params), section(DataConfig, params)
    section(EvaluateConfig, params)
    assert section(RayConfig, params).in_process
    assert (data.source, data.noise.rate, data.drop_leaks, config.model.weights) == ("ferplus", 0, True, None)
    image = image_spec(np.zeros((1, data.image_size, data.image_size, 1), np.uint8))
    for width, fits in ((config.model.width, True), (config.model.width + 2, False)):
        chosen = config.model.model_copy(update={"width": width})
        state = ship.in_half(Classifier(Architecture.of(chosen, 8), image).backbone.state_dict())
        if fits:
            ship.check_size(state)
        else:
            with pytest.raises(
                ConfigError, match=r"^model\.width: .* at most.*\(got 3,\d\d\d,\d\d\d\)\. Choose a smaller"
            ):
                ship.check_size(state)


def test_the_stages_are_run_in_their_folder_and_write_where_the_package_looks() -> None:
    stages = YAML(typ="safe", pure=True).load((ROOT / "pretrained/dvc.yaml").read_text())["stages"]
    outs = {name: [next(iter(out)) for out in stage["outs"]] for name, stage in stages.items()}
    assert list(stages) == ["ingest", "prepare", "train", "ship"]
    assert (ROOT / "pretrained" / outs["ship"][0]).resolve() == SHIPPED and Path(outs["ship"][0]) == ship.OUT
    for stage in stages.values():
        script = ROOT / "pretrained" / stage["cmd"].removeprefix("python ")
        assert script.resolve().is_file()
    assert all(not next(iter(out.values()))["cache"] for stage in stages.values() for out in stage["outs"])


@pytest.fixture
def shipped(project: Path) -> Path:
    """The folder of the package's model, or of one that is made as it is."""
    return SHIPPED if has_model(SHIPPED) else project / "nla/pretrained"


def test_it_is_small_and_in_half_precision(shipped: Path) -> None:
    files = {path.name: path.stat().st_size for path in shipped.iterdir()}
    assert files.keys() == {"README.md", "model.json", "model.safetensors"} and sum(files.values()) <= 3_000_000
    arrays = load_file(shipped / "model.safetensors").values()
    assert {array.dtype for array in arrays if array.dtype.kind == "f"} == {np.dtype(np.float16)}
    assert all(np.isfinite(array).all() for array in arrays)


def test_it_answers_for_real_faces(shipped: Path) -> None:
    predictor = Predictor.load(shipped)
    assert (predictor.source, predictor.classes, predictor.caution) == ("ferplus", CLASSES, "")
    assert {p.dtype for p in predictor.model.parameters()} == {torch.float32}
    image = np.random.default_rng(0).integers(0, 256, (1, 48, 48), np.uint8)
    assert predictor.predict(image).probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_its_card_is_of_this_file_and_states_data_terms_and_limits(shipped: Path) -> None:
    card, text = read_card(shipped / "model.safetensors"), (shipped / "README.md").read_text()
    assert card["sha256"] in text and card["stored"] == "float16" and card["calibration"]["rows"] > 0
    titles = ("Intended use and limits", "Data", "Training", "Results", "Calibration", "Terms", "This file")
    assert all(f"\n## {title}\n" in text for title in titles)
    for said in ("FERPlus", "for research", "(EU) 2024/1689", "make pretrained", "half precision", "were left out"):
        assert said in text
    assert "not at hand" not in text, "results and training are known"
    assert "/tmp" not in text and "/home" not in text and str(ROOT) not in text + json.dumps(card)
