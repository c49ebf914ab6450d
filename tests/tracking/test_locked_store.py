"""An SQLite store that another process has locked: a bounded wait, then one line, or training goes on."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow import MlflowClient
from mlflow_parts import new_store

from nla.errors import TrackingError
from nla.tracking import MlflowTracker, configure, store
from nla.tracking.store import store_lock

MLFLOW_SECONDS = 20
"""MLflow's own wait for a locked file, which it offers no way to change."""


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return new_store(tmp_path, monkeypatch)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """As by a process in the middle of a change: no other can read or write."""
    connection = sqlite3.connect(folder / "mlflow.db", isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.close()


def test_at_the_start_it_is_one_line_within_seconds(uri: str, tmp_path: Path) -> None:
    started = time.monotonic()
    with locked(tmp_path), pytest.raises(TrackingError) as raised:
        configure(tmp_path)
    assert time.monotonic() - started < MLFLOW_SECONDS
    said = f"MLflow store {uri}: database is locked, by another program. End it, and run this again."
    assert str(raised.value) == said
    assert configure(tmp_path) == uri


def test_a_moment_is_waited_for(uri: str, tmp_path: Path) -> None:
    run = MlflowTracker(uri, system_metrics=False)
    run_id = run.start("x", {}, {})
    with contextlib.ExitStack() as held:
        held.enter_context(locked(tmp_path))
        threading.Timer(0.5, held.pop_all().close).start()
        run.log_epoch({"loss": 1.0}, 1)
    assert [metric.step for metric in MlflowClient(uri).get_metric_history(run_id, "loss")] == [1]


@pytest.mark.thorough
def test_in_mid_run_training_goes_on(uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each epoch waits as long as MLflow does; what could not be logged follows later."""
    run = MlflowTracker(uri, system_metrics=False)
    run_id = run.start("x", {}, {})
    started = time.monotonic()
    with locked(tmp_path):
        run.log_epoch({"loss": 1.0}, 1)
        run.finish("FAILED")  # does not wait again
    assert time.monotonic() - started < 1.5 * MLFLOW_SECONDS
    (said,) = (record.getMessage() for record in caplog.records if record.name == "nla.tracking.tracker")
    assert said.startswith("could not log epoch 1 to MLflow; will retry with the next epoch: ")
    assert said.endswith("database is locked")
    run.log_epoch({"loss": 2.0}, 2)
    run.finish()
    assert [metric.step for metric in MlflowClient(uri).get_metric_history(run_id, "loss")] == [1, 2]


def test_a_process_that_hangs_while_it_holds_our_lock_is_not_waited_for_without_end(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store, "PATIENT_SECONDS", 0.05)
    monkeypatch.setattr(store, "LOCK_SECONDS", 0.1)
    path = tmp_path / "mlflow.db.lock"
    with FileLock(path), pytest.raises(TrackingError) as raised, store_lock(uri):
        pass
    assert str(raised.value) == f"{path}: locked for more than 0.1 s by another process. End it, and run this again."
    assert f"{path}: another process is at work in this MLflow store: waiting for it" in caplog.text
    with store_lock(uri):
        pass
