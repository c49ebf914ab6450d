"""A local store that was moved or copied with its project.

MLflow writes absolute locations of files into the database. After a move they would be missing, and after a copy they
would be those of the original, so that the copy would write there, and lose its models with it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

BESIDE = "nla.artifacts"
"""Tag of an experiment whose files are beside the database, and stay there when both are moved."""
LOCATIONS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
"""Tables and columns of MLflow's database with locations of files."""


def follow_move(database: Path, artifacts: Path) -> Path | None:
    """Lets the store name `artifacts`, the folder beside it, where it names the one it had before a move or copy.

    A folder that a user has chosen for an experiment is kept.

    Returns:
        The former folder; None if nothing was moved.
    """
    with contextlib.closing(sqlite3.connect(database)) as connection:
        for old in _former(connection, artifacts):
            with connection:  # all or nothing
                for before, after in ((old.as_uri(), artifacts.as_uri()), (str(old), str(artifacts))):
                    _replace(connection, before, after)
            return old
    return None


def _former(connection: sqlite3.Connection, artifacts: Path) -> Iterator[Path]:
    """Folders beside which the store was before."""
    tagged = "SELECT 1 FROM experiment_tags t WHERE t.experiment_id = e.experiment_id AND t.key = ?"
    found = connection.execute(f"SELECT artifact_location, EXISTS ({tagged}) FROM experiments e", (BESIDE,))
    for location, is_beside in found.fetchall():
        old = _local(location)
        if old is None or old.name != artifacts.name or _same(old, artifacts):
            continue
        if is_beside or _holds_run(connection, old, artifacts):
            yield old


def _holds_run(connection: sqlite3.Connection, old: Path, artifacts: Path) -> bool:
    """Whether files of a run that should be in `old` are in `artifacts`: a store of a version without the tag."""
    uris = connection.execute("SELECT artifact_uri FROM runs UNION SELECT artifact_location FROM logged_models")
    folders = [folder for (uri,) in uris if (folder := _local(uri)) is not None]
    return any((artifacts / folder.relative_to(old)).exists() for folder in folders if old in folder.parents)


def _same(old: Path, artifacts: Path) -> bool:
    """Whether both name one folder, perhaps by a link or another mount."""
    return old == artifacts or (old.exists() and artifacts.exists() and old.samefile(artifacts))


def _local(location: str | None) -> Path | None:
    """The folder that a location names; None for a URL."""
    parts = urlsplit(location or "")
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(parts.path) if parts.path.startswith("/") and not parts.scheme else None


def _replace(connection: sqlite3.Connection, before: str, after: str) -> None:
    """Replaces the beginning `before` of every location, where it is a whole path."""
    for table, columns in LOCATIONS.items():
        for column in columns:
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (after, len(before) + 1, before, len(before) + 1, f"{before}/"),
            )
