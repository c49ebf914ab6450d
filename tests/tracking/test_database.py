"""The SQLite file of a local store: made whole or not at all, whatever kills its process."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.store.db import utils
from mlflow.store.db.utils import _get_latest_schema_revision
from mlflow_parts import clean_env, migrated, new_store
from patience import PATIENCE
from sqlalchemy import event

from nla.errors import TrackingError
from nla.tracking import MlflowTracker, configure, database
from nla.tracking.store import experiment

KILLS = 50


def remains(folder: Path, every: int) -> list[Path]:
    """Folders with what a kill leaves of a store that MLflow makes in place, after each `every` statements."""
    path, found, count = folder / "mlflow.db", [], 0
    engine = utils.create_sqlalchemy_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))

    @event.listens_for(engine, "before_cursor_execute")
    def copy(*_: object) -> None:
        nonlocal count
        count += 1
        if count % every == 0:
            found.append(folder / str(count))
            found[-1].mkdir()
            for file in folder.glob("mlflow.db*"):
                shutil.copy(file, found[-1])

    utils._initialize_tables(engine)
    engine.dispose()
    return found


def execute(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def tables(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]


def is_complete(path: Path) -> bool:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return revision == (_get_latest_schema_revision(),)


@pytest.mark.parametrize("every", [240, pytest.param(20, marks=pytest.mark.thorough)])
def test_the_rest_of_a_killed_creation_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    monkeypatch.setattr(database, "create_tables", lambda path: path.write_bytes(migrated()))  # once instead of often
    found = remains(tmp_path, every)
    assert len(found) > 5
    for folder in found:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        uri = configure(folder)
        MlflowTracker(uri, system_metrics=False).start("x", {}, {})
        assert is_complete(folder / "mlflow.db")
        assert {path.name for path in folder.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


def test_an_empty_file_becomes_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").touch()
    (tmp_path / "mlflow.db.part").write_text("of a creation that was killed")
    (tmp_path / "mlflow.db.part-journal").write_text("of the same")
    assert experiment(MlflowClient(configure(tmp_path))).name == "nla"
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


def test_a_store_with_runs_of_another_version_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = new_store(tmp_path, monkeypatch)
    run_id = MlflowTracker(uri, system_metrics=False).start("x", {}, {})
    path = tmp_path / "mlflow.db"
    execute(path, "DROP TABLE webhooks", "UPDATE alembic_version SET version_num = '0123abcd'")
    before = tables(path)
    with pytest.raises(TrackingError, match=r"another version .* 0123abcd, .*mlflow db upgrade"):
        configure(tmp_path)
    assert tables(path) == before
    execute(path, f"UPDATE alembic_version SET version_num = '{_get_latest_schema_revision()}'")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT run_uuid FROM runs").fetchall() == [(run_id,)]


def test_an_experiment_without_runs_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_store(tmp_path, monkeypatch)
    execute(tmp_path / "mlflow.db", "UPDATE alembic_version SET version_num = '0123abcd'")
    with pytest.raises(TrackingError, match="another version of MLflow"):
        configure(tmp_path)


def test_the_database_of_another_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    execute(tmp_path / "mlflow.db", "CREATE TABLE notes (text)")
    with pytest.raises(TrackingError, match=r"another program\. Set MLFLOW_TRACKING_URI"):
        configure(tmp_path)
    assert tables(tmp_path / "mlflow.db") == 1


def test_a_file_that_is_no_database_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_text("text" * 1000)
    with pytest.raises(TrackingError, match="file is not a database"):
        configure(tmp_path)
    assert (tmp_path / "mlflow.db").read_text() == "text" * 1000


@pytest.mark.thorough
def test_kills_at_all_moments_of_the_creation(tmp_path: Path) -> None:
    """Children that make a store are killed at moments spread over the time that it takes, some after its end."""
    code = f"""
import os, signal, sys, time
from pathlib import Path
from nla.tracking import configure
import nla.tracking.database

def child(folder, seconds):
    Path(folder).mkdir(exist_ok=True)
    started, pid = time.monotonic(), os.fork()
    if pid == 0:
        configure(Path(folder))
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        while seconds > whole and not os.path.exists(f"{{folder}}/mlflow.db"):  # slower than the first one was
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return time.monotonic() - started

whole = child("0", None)
for kill in range(1, {KILLS} + 1):
    child(str(kill), 1.1 * whole * kill / {KILLS})
    print(kill, os.path.exists(f"{{kill}}/mlflow.db"), os.path.exists(f"{{kill}}/mlflow.db.part"), flush=True)
"""
    said = subprocess.check_output(
        [sys.executable, "-c", code], cwd=tmp_path, env=clean_env(), text=True, timeout=PATIENCE
    )
    kinds = {tuple(line.split()[1:]) for line in said.splitlines()}
    assert ("False", "True") in kinds and ("True", "False") in kinds, said  # kills before and after the renaming
    for kill in range(1, KILLS + 1):
        path = tmp_path / str(kill) / "mlflow.db"
        assert not path.exists() or is_complete(path)
        if kill % 10 == 0:
            assert MlflowTracker(configure_in(path.parent), system_metrics=False).start("x", {}, {})


def configure_in(folder: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return configure(folder)
