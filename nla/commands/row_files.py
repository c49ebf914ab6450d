"""Rows of a result as they come: CSV, JSON lines or Parquet, by the suffix of the file."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from nla.errors import CommandError
from nla.io import atomic_write

if TYPE_CHECKING:
    import pyarrow as pa

STDOUT = "-"
"""Name of standard output, which gets CSV."""
SUFFIXES = (".csv", ".jsonl", ".parquet")
DIGITS = 6
"""Decimals of numbers; trailing zeros stay in CSV."""
Row = dict[str, Any]
"""Values by column: text, whole numbers, numbers, or None where there is none."""
Write = Callable[[Sequence[Row]], None]


def check_suffix(out: str) -> None:
    """Raises CommandError if the format of `out` is not supported, before anything is computed for it."""
    if out != STDOUT and Path(out).suffix not in SUFFIXES:
        raise CommandError(
            f"{out}: unsupported file format (got {Path(out).suffix!r}). Use {', '.join(SUFFIXES)}, or {STDOUT}."
        )


@contextlib.contextmanager
def row_file(out: str, columns: dict[str, type]) -> Iterator[Write]:
    """Yields a function that writes rows; the file appears, complete, at the end, and not at all after an error.

    Args:
        out: path with one of SUFFIXES, or STDOUT.
        columns: names, each with str, int or float. Each row has all of them.

    Raises:
        OSError: it cannot be written.
    """
    if out == STDOUT:
        yield _csv(sys.stdout, columns)
        return
    with atomic_write(Path(out)) as part:
        if Path(out).suffix == ".parquet":
            with _parquet(part, columns) as write:
                yield write
            return
        with part.open("w", newline="", encoding="utf-8") as file:
            yield _csv(file, columns) if Path(out).suffix == ".csv" else _json_lines(file)


def _csv(file: TextIO, columns: dict[str, type]) -> Write:
    writer = csv.writer(file, lineterminator="\n")
    is_begun = False

    def write(rows: Sequence[Row]) -> None:
        nonlocal is_begun
        if not is_begun:
            writer.writerow(columns)
            is_begun = True
        writer.writerows([_cell(row[column]) for column in columns] for row in rows)

    return write


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.{DIGITS}f}"
    return "" if value is None else str(value)


def _json_lines(file: TextIO) -> Write:
    def write(rows: Sequence[Row]) -> None:
        for row in rows:
            numbers = {name: round(value, DIGITS) for name, value in row.items() if isinstance(value, float)}
            file.write(json.dumps({**row, **numbers}, ensure_ascii=False) + "\n")

    return write


@contextlib.contextmanager
def _parquet(part: Path, columns: dict[str, type]) -> Iterator[Write]:
    import pyarrow as pa  # half a second to import
    import pyarrow.parquet as pq

    kinds: dict[type, pa.DataType] = {str: pa.string(), int: pa.int32(), float: pa.float64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        yield lambda rows: writer.write_table(pa.Table.from_pylist(list(rows), schema))
