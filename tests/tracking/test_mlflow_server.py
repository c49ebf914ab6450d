"""Tracking and registry with a real server, which is stopped at the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.pyfunc import load_model
from mlflow_parts import CLASSES, constant_model, mlflow_server, write_samples

from nla.config.register import RegisterConfig
from nla.data.schema import read_info
from nla.errors import TrackingError
from nla.tracking import MlflowTracker, configure
from nla.tracking.run_record import RunRecord
from pipelines.register import Metrics, register


@pytest.mark.slow
@pytest.mark.thorough
def test_on_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with mlflow_server(tmp_path) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert configure(tmp_path) == uri
        run_id = track(uri, tmp_path)
        promote(MlflowClient(uri), run_id, tmp_path)
        tracker = MlflowTracker(uri, system_metrics=False)
        tracker.start("x", {}, {})
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker.log_epoch({"loss": 1}, 1)
    assert "could not log epoch 1" in caplog.text
    with pytest.raises(TrackingError, match=r"MLflow store .*: .*Connection refused(?s:.*)that the server is running"):
        tracker.finish()
    tracker.finish("FAILED")
    assert not (tmp_path / "mlflow.db").exists()
    assert not (tmp_path / "mlruns").exists()


def track(uri: str, folder: Path) -> str:
    path = write_samples(folder / "train.parquet", [0, 1, 2])
    client, run_id = MlflowClient(uri), ""
    for first in (0, 1):
        tracker = MlflowTracker(uri, system_metrics=False)
        run_id = tracker.start("x", {"a": 1}, {}, run_id)
        for epoch in (first, first + 1):
            tracker.log_epoch({"loss": epoch}, epoch)
        tracker.log_dataset(path, read_info(path), "training")
        tracker.log_artifact(path, "tables")
        tracker.finish()
    run = client.get_run(run_id)
    assert [metric.step for metric in client.get_metric_history(run_id, "loss")] == [0, 1, 2]
    assert run.info.status == "FINISHED"
    assert [dataset.dataset.name for dataset in run.inputs.dataset_inputs] == ["synthetic-train"]
    assert [item.path for item in client.list_artifacts(run_id, "tables")] == ["tables/train.parquet"]
    return run_id


def promote(client: MlflowClient, run_id: str, folder: Path) -> None:
    valid = write_samples(folder / "valid.parquet", [0] * 140 + [1] * 60)
    run = RunRecord(mlflow_run_id=run_id, fingerprint="f0", name="x", params={}, tags={}, facts={}, history=[])
    metrics = Metrics(test={"accuracy": 0.5}, valid={})
    for answer in (1, 0):
        models = constant_model(folder / f"models-{answer}", answer)
        record = register(models, metrics, run, valid, RegisterConfig(), client.tracking_uri)
    assert (record.decision, record.version, record.champion_before) == ("champion", 2, 1)
    assert record.difference == pytest.approx(0.4)
    champion = load_model("models:/nla-synthetic@champion")
    assert champion.metadata.metadata["classes"] == list(CLASSES)
