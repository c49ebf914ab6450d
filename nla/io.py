"""Files written atomically, with the same bytes on every system: JSON, CSV and Parquet; and their hashes."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nla.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which is renamed to it at the end, or deleted after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Writes `record`, indented."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(record, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a record that an earlier stage wrote. Raises DataError if it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run `dvc repro`") from None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): remove it and run `dvc repro`") from None


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as CSV, with a header of all their keys in order of first appearance."""
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    # newline="" keeps line ends inside quoted cells, and stops Windows from doubling them
    with atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_table(path: Path, table: pa.Table) -> None:
    """Writes `table`, compressed with Zstandard."""
    import pyarrow.parquet as pq  # half a second, which a reader of JSON need not wait for

    with atomic_write(path) as part:
        pq.write_table(table, part, compression="zstd")
