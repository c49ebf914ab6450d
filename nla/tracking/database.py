"""The SQLite file of a local store.

MLflow makes its tables by some sixty migrations, each committed on its own. What a kill leaves of them, MLflow can
neither use nor continue, so they are made in a file beside, which gets its name when it is complete.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

from mlflow.store.db import utils
from sqlalchemy import event

from nla.errors import TrackingError
from nla.tracking.store import sqlite_uri

db: Any = utils  # not annotated
REVISION = "alembic_version"
FIRST_TABLES = frozenset({"experiments", "runs", "tags", "metrics", "params"})
"""The tables that MLflow makes before its first migration."""
SEEDS = {"workspaces": "name <> 'default'", "experiments": "name <> 'Default'"}
"""Conditions for rows that a user has made, in the tables that MLflow fills itself."""
JOURNALS = ("-journal", "-wal", "-shm")
"""Endings of the files that SQLite keeps beside a database, and would apply to whatever has its name."""


def ensure_database(path: Path) -> None:
    """Makes MLflow's tables in `path` unless they are there; the caller holds the lock of the store.

    The unfinished rest of an interrupted creation is replaced.

    Raises:
        TrackingError: the file belongs to another program, or to another version of MLflow.
        sqlite3.Error: the file is no SQLite database, or cannot be read.
    """
    if path.is_file() and path.stat().st_size and not is_unfinished(path):
        return
    part = path.with_name(f"{path.name}.part")
    _delete(part)
    create_tables(part)
    _delete(path)
    part.replace(path)


def create_tables(path: Path) -> None:
    """Makes MLflow's tables in the new file `path`, and writes it to the disk once, instead of after each migration."""
    engine = db.create_sqlalchemy_engine(sqlite_uri(path))
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    try:
        db._initialize_tables(engine)
    finally:
        engine.dispose()
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def is_unfinished(path: Path) -> bool:
    """Whether the file holds only what an interrupted creation of MLflow's tables leaves."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        tables = {name for (name,) in names}
        if REVISION not in tables and not tables <= FIRST_TABLES:
            raise TrackingError(
                f"MLflow store {path}: an SQLite database of another program. Set MLFLOW_TRACKING_URI to another file."
            )
        found = database.execute(f"SELECT version_num FROM {REVISION}").fetchone() if REVISION in tables else None
        latest = db._get_latest_schema_revision()
        if found == (latest,):
            return False
        if all(_is_empty(database, table) for table in tables - {REVISION}):
            return True
    schemas = f"schema {found and found[0]}, expected {latest}"
    raise TrackingError(
        f"MLflow store {path}: made by another version of MLflow ({schemas}). Copy the file, then run `mlflow "
        f"db upgrade {sqlite_uri(path)}`, or use the version that made it."
    )


def _is_empty(database: sqlite3.Connection, table: str) -> bool:
    """Whether the table has no rows but those that MLflow adds itself."""
    where = SEEDS.get(table, "true")
    return database.execute(f'SELECT 1 FROM "{table}" WHERE {where} LIMIT 1').fetchone() is None


def _delete(path: Path) -> None:
    """Deletes a database, and then its journals."""
    for ending in ("", *JOURNALS):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).unlink()
