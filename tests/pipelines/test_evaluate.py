"""How `evaluate` computes, and the end of its MLflow run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from mlflow import MlflowClient
from mlflow_parts import CLASSES, new_store, write_samples

from nla.commands.measure import main as measure_command
from nla.config.evaluate import EvaluateConfig
from nla.data.images import encode_png
from nla.data.samples import Annotations, Samples
from nla.errors import DataError, TrackingError
from nla.evaluation.predict import ONE_VIEW, Views, predict
from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.models.saved_model import load_model, save_model
from nla.serving.predictor import Predictor
from nla.tracking import MlflowTracker
from nla.tracking.run_record import RunRecord
from pipelines import evaluate


@pytest.fixture
def bf16_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Classifier:
    """models/model.* of the present folder, trained in bfloat16, as its card says."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = Classifier(Architecture("resnet18", 4, "stride2", 0.0, len(CLASSES)), ImageSpec(16, 1, (0.5,), (0.25,)))
    known = {"source": "tiny", "classes": CLASSES, "fingerprint": "f0", "epoch": 1}
    card = {**model.describe(), **known, "views": {"mirror": True, "shift": 1}, "facts": {"precision": "bf16"}}
    save_model(Path("models/model.safetensors"), model.backbone.state_dict(), card)
    return model


@pytest.fixture
def split() -> Samples:
    images_NHWC = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 1), np.uint8)
    label_N = np.zeros(8, np.int64)
    return Samples(images_NHWC, label_N, None, np.arange(8), CLASSES, "tiny")


@pytest.mark.parametrize("change", [{"source": "other"}, {"classes": CLASSES[::-1]}])
def test_a_model_is_not_measured_on_labels_of_another_set(
    bf16_model: Classifier, split: Samples, change: dict[str, Any]
) -> None:
    """By number the labels would fit, and every figure would be wrong."""
    with pytest.raises(DataError, match=r"data/test\.parquet: .*trained on tiny .*\(got .*`nla measure data/test"):
        evaluate.probabilities("model", {"test": replace(split, **change)})


def test_validation_with_noisy_labels_is_measured_by_the_clean_ones(split: Samples) -> None:
    clean_N = np.arange(8) % len(CLASSES)
    measured = evaluate.with_clean_labels(split, Annotations(None, None, clean_N, clean_N != split.label_N))
    assert measured.label_N.tolist() == clean_N.tolist() and measured.images_NHWC is split.images_NHWC
    p_NC = np.eye(len(CLASSES))[clean_N]
    found = evaluate.measure_splits(
        {"valid": p_NC},
        {"valid": measured},
        {"valid": Annotations(None, None, clean_N, clean_N != 0)},
        EvaluateConfig(),
    )
    assert found["valid"]["accuracy"] == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "mlflow_run_id: field required"),
        ({"params": {}}, r"params\.loss: field required"),
        ({"params": {"loss": {"slope": "steep"}}}, r"params\.loss\.slope: must be a valid number \(got 'steep'\)"),
        ({"history": [{"valid_accuracy": 0.5}]}, "history: row 0 must have an epoch"),
    ],
)
def test_a_record_of_a_run_that_is_wrong_names_the_field(tmp_path: Path, content: dict[str, Any], said: str) -> None:
    run = {"mlflow_run_id": None, "fingerprint": "f", "name": "n", "tags": {}, "facts": {}, "history": []}
    record = tmp_path / "run.json"
    record.write_text(json.dumps({**run, "params": {"loss": {}}, **content} if content else {}))
    with pytest.raises(DataError, match=rf"run\.json: {said}.*Run `dvc repro`\.$"):
        evaluate.read_run(record)


def test_a_test_split_that_was_corrected_is_in_the_protocol(tmp_path: Path) -> None:
    """And so in reports/metrics.json, in the note of the MLflow run and on the console."""
    table = write_samples(tmp_path / "test.parquet", [0, 1, 2])
    assert evaluate.protocol(table) == evaluate.PROTOCOL
    counts = {"relabel": 3, "distribution": 1, "drop": 2, "keep": 7}
    table = write_samples(tmp_path / "test.parquet", [0, 1, 2], extra={"corrected": counts})
    said = evaluate.protocol(table)
    assert said == f"{evaluate.PROTOCOL}; 6 rows of test were corrected by hand (data.correct_test)"
    test = {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, "mean_accuracy": 0.3, "macro_f1": 0.25}
    metrics = {"test": test | {"classes": {}}, "views": {"mirror": False, "shift": 0}, "epoch": 3}
    printed = list(evaluate.summary_lines({"protocol": said, **metrics}))
    assert printed[-1] == "note: 6 rows of test were corrected by hand (data.correct_test)"
    assert len(list(evaluate.summary_lines({"protocol": evaluate.PROTOCOL, **metrics}))) == len(printed) - 1
    damaged = write_samples(tmp_path / "test.parquet", [0, 1, 2], extra={"corrected": {"relabel": "3"}})
    with pytest.raises(DataError, match=r"metadata: extra\.corrected\.relabel"):
        evaluate.protocol(damaged)


def test_the_summary_names_the_views() -> None:
    test = {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, "mean_accuracy": 0.3, "macro_f1": 0.25}
    test |= {"classes": {"joy": {"recall": 1.0}, "fear": {"recall": 0.125}}}
    one = {"test": {"accuracy": 0.4875}}
    metrics = {"test": test, "one_view": one, "views": {"mirror": True, "shift": 1}, "epoch": 3}
    first, *others = evaluate.summary_lines(metrics)
    assert first.startswith("test accuracy 50.00% (95 % CI 40.00% to 60.00%), mean class accuracy 30.00%")
    assert others == ["over 10 views per image; 48.75% with one", "recall joy 100.0%, fear 12.5%"]
    plain = metrics | {"views": {"mirror": False, "shift": 0}}
    assert list(evaluate.summary_lines(plain)) == [first, others[1]]


@pytest.mark.parametrize("in_hardware", [False, True])
def test_evaluation_predictor_and_measure_give_the_same_probabilities(
    bf16_model: Classifier, split: Samples, monkeypatch: pytest.MonkeyPatch, in_hardware: bool
) -> None:
    """Also of a network that was trained in bfloat16: in float32, with the views of the card."""
    for ask in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, ask, lambda: in_hardware)
    p, _ = evaluate.probabilities("model", {"test": split})
    np.testing.assert_allclose(
        p["test"], Predictor.load("models").predict(split.images_NHWC[..., 0]).probabilities, atol=1e-5
    )
    np.testing.assert_allclose(p["test"], predict(bf16_model, split.images_NHWC, Views(shift=1)), atol=1e-5)
    one, _ = evaluate.probabilities("model", {"test": split}, ONE_VIEW)
    assert np.abs(one["test"] - p["test"]).max() > 1e-4, "the views must matter here"

    for i, image in enumerate(split.images_NHWC):
        Path("set", CLASSES[i % 2]).mkdir(parents=True, exist_ok=True)
        Path("set", CLASSES[i % 2], f"{i}.png").write_bytes(encode_png(image[..., 0]))
    measure_command(["set"])
    table = (
        pq.read_table("reports/measured/predictions.parquet").to_pandas().sort_values("path", key=lambda s: s.str[-5:])
    )
    np.testing.assert_allclose(table[[f"p_{name}" for name in CLASSES]], p["test"], atol=1e-6)
    report = json.loads(Path("reports/measured/metrics.json").read_text())
    assert (report["views"], report["precision"]) == ({"mirror": True, "shift": 1}, "fp32")


@pytest.mark.usefixtures("bf16_model")
def test_views_that_the_model_was_not_trained_to_be_used_with_are_refused() -> None:
    _, card = load_model(Path("models/model.safetensors"))
    evaluate.check_views(card, EvaluateConfig(shift=1))
    with pytest.raises(DataError, match=r"model\.json: views: .* shift 2 \(got True, 1\)\. Run `dvc repro`"):
        evaluate.check_views(card, EvaluateConfig(shift=2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_used(bf16_model: Classifier, split: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []

    def spy(model: Classifier, images_NHWC: np.ndarray, **options: Any) -> np.ndarray:
        used.append(next(model.parameters()).device.type)
        return predict(model, images_NHWC, **options)

    monkeypatch.setattr(evaluate, "predict", spy)
    p, _ = evaluate.probabilities("model", {"test": split})
    assert used == ["cuda"]
    np.testing.assert_allclose(p["test"], predict(bf16_model, split.images_NHWC, Views(shift=1)), atol=0.02)


def test_a_run_that_cannot_be_told_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    uri = new_store(tmp_path, monkeypatch)
    run_id = MlflowTracker(uri, system_metrics=False).start("x", {}, {})
    run = RunRecord(
        mlflow_run_id=run_id, fingerprint="f", name="x", params={}, tags={}, facts={"workers": 2}, history=[]
    )
    status = lambda: MlflowClient(uri).get_run(run_id).info.status  # noqa: E731
    evaluate.track({"test": {"accuracy": 0.5}}, run, 1)
    assert status() == "FINISHED"
    assert MlflowClient(uri).get_run(run_id).data.params == {"facts.workers": "2"}
    (tmp_path / "reports/figures").mkdir(parents=True)
    (tmp_path / "reports/figures/a.png").write_bytes(b"")
    shutil.rmtree(tmp_path / "mlruns")
    (tmp_path / "mlruns").write_text("a file in the folder's place")
    with pytest.raises((TrackingError, OSError)):
        evaluate.track({"test": {"accuracy": 0.5}}, run, 1)
    assert status() == "FAILED"
