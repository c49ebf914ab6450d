"""A server that accepts connections and never answers, or refuses them, holds nothing up for longer than promised."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from mlflow.environment_variables import (
    MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR,
    MLFLOW_HTTP_REQUEST_BACKOFF_JITTER,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)
from mlflow_parts import new_store
from urllib3.util.retry import Retry

from nla.errors import TrackingError
from nla.tracking import MlflowTracker, configure, database_server
from nla.tracking.store import DATABASE_LIMITS, HTTP_LIMITS, file_transfer

PROMISED_SECONDS = 15
CALL_SECONDS = 1
"""Of the lowered limit: one attempt of a second."""


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a server that never answers, with limits that a test can wait for."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(CALL_SECONDS))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri


@contextlib.contextmanager
def at_most(calls: int) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < (calls + 1) * CALL_SECONDS


def test_a_call_takes_the_promised_time_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in HTTP_LIMITS:
        monkeypatch.delenv(name, raising=False)
    new_store(tmp_path, monkeypatch)
    attempts = 1 + MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()
    retry, waits = Retry(attempts, backoff_factor=MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR.get()), 0.0
    for _ in range(attempts - 1):
        retry = retry.increment("GET", "/", error=OSError("no answer"))
        waits += retry.get_backoff_time() + MLFLOW_HTTP_REQUEST_BACKOFF_JITTER.get()
    assert attempts * MLFLOW_HTTP_REQUEST_TIMEOUT.get() + waits <= PROMISED_SECONDS
    with file_transfer():
        assert MLFLOW_HTTP_REQUEST_TIMEOUT.get() == 120
    assert MLFLOW_HTTP_REQUEST_TIMEOUT.get() == int(HTTP_LIMITS["MLFLOW_HTTP_REQUEST_TIMEOUT"])


def test_limits_of_the_user_are_kept(silent: str) -> None:
    with file_transfer():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == str(CALL_SECONDS)


def test_at_the_start(tmp_path: Path, silent: str) -> None:
    with at_most(1), pytest.raises(TrackingError, match=r"MLflow store http://127.0.0.1(?s:.*)timed out"):
        configure(tmp_path)


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "mysql+pymysql"])
def test_a_silent_database_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setattr(database_server, "TIMEOUT_SECONDS", CALL_SECONDS)
    monkeypatch.setitem(sys.modules, "pymysql", ModuleType("pymysql"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://me:secret@127.0.0.1:{server.getsockname()[1]}/mlflow")
        with at_most(1), pytest.raises(TrackingError) as caught:
            configure(tmp_path)
    message = str(caught.value)
    assert "accepts connections, but has not answered for 1 s" in message and "secret" not in message


def test_a_database_that_falls_silent_ends_a_new_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """By PostgreSQL's client library: two seconds are the least that it takes."""
    psycopg = pytest.importorskip("psycopg")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match="timeout"):
            psycopg.connect(host="127.0.0.1", port=server.getsockname()[1], user="me", dbname="mlflow")
        assert time.monotonic() - started < 10
    assert int(DATABASE_LIMITS["PGCONNECT_TIMEOUT"]) <= 15


def test_in_mid_run(tmp_path: Path, silent: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each epoch waits once; at the end the first call says it, and closing the run does not wait again."""
    tracker = MlflowTracker(silent, system_metrics=False)
    tracker._run_id = "0" * 32  # opened while the server answered
    with at_most(1):
        tracker.log_epoch({"loss": 1.0, "accuracy": 0.5}, 1)
    assert "could not log epoch 1" in caplog.text
    with at_most(1), pytest.raises(TrackingError, match="timed out"), tracker.closing():
        tracker.log_params({"facts": {"workers": 1}})
