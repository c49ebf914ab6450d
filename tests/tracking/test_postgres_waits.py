"""A PostgreSQL that is there, but keeps a statement waiting: nothing waits for longer than promised."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from postgres_parts import Postgres, postgres_server
from sqlalchemy.exc import OperationalError

from nla.errors import TrackingError
from nla.tracking import MlflowTracker, configure, store
from nla.tracking.database_server import LOCK, server_lock
from nla.tracking.store import DATABASE_LIMITS

pytestmark = [pytest.mark.slow, pytest.mark.thorough]
STATEMENT = "-c statement_timeout=1s"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def uri(postgres: Postgres, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Address of a new database, in which a statement takes a second at most."""
    monkeypatch.setenv("PGOPTIONS", STATEMENT)
    uri = postgres.create(re.sub(r"\W", "_", request.node.name)[:60])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def test_the_limit_is_what_a_connection_gets(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", DATABASE_LIMITS["PGOPTIONS"])
    with psycopg.connect(postgres.uri("postgres")) as connection:
        assert connection.execute("SHOW statement_timeout").fetchall() == [("1min",)]


def test_a_statement_that_waits_in_mid_run_is_given_up_and_logged_later(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = MlflowTracker(configure(tmp_path), system_metrics=False)
    run_id = tracker.start("waits", {}, {})
    with psycopg.connect(uri, options="") as other:
        other.execute("LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE")
        tracker.log_epoch({"loss": 2.0}, 1)
        assert "could not log epoch 1" in caplog.text and "statement timeout" in caplog.text
        with pytest.raises(TrackingError, match="canceling statement due to statement timeout"):
            tracker.log_metrics({"test": {"accuracy": 0.5}}, 1)
    tracker.log_epoch({"loss": 1.0}, 2)
    tracker.finish()
    history = tracker._client.get_metric_history(run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 2.0), (2, 1.0)]


def test_the_lock_of_a_store_is_waited_for_longer_than_a_statement(uri: str) -> None:
    with psycopg.connect(uri, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        freed = threading.Timer(2.0, lambda: other.execute("SELECT pg_advisory_unlock(%s)", [LOCK]))
        freed.start()
        started = time.monotonic()
        with server_lock(uri, 60.0):
            assert time.monotonic() - started > 1.5
        freed.join()


def test_but_not_for_ever(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOCK_SECONDS", 0.5)
    with psycopg.connect(uri, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        with pytest.raises(OperationalError, match="statement timeout"), store.store_lock(uri):
            raise AssertionError("another process has the lock")
