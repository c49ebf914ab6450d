"""Reads CSV files in blocks, as strings, with the line number of each row.

Lines are counted as in an editor, with the header as line 1. Positions count only rows, from 0.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from nla.data.problems import Problem
from nla.data.sources.base import DOCS, Findings
from nla.errors import DataError
from nla.io import regular
from nla.limits import MAX_LINE

BLOCK = 8 << 20  # bytes: about 1,000 rows of 48x48 pixels as text


@dataclass(frozen=True)
class Rows:
    """N rows of a CSV file, without blank lines."""

    line_N: np.ndarray
    position_N: np.ndarray
    columns: pa.RecordBatch
    """The wanted columns, as strings."""


def read_rows(
    path: Path,
    wanted: Sequence[str],
    findings: Findings,
    max_columns: int,
    unnamed: Sequence[str] | None = None,
    block: int = BLOCK,
) -> Iterator[Rows]:
    """Reads the columns `wanted` of the CSV file `path`. Rows with too few or too many values become problems.

    `unnamed` are the column names of a file that can come without a header.

    Raises:
        DataError: a wanted column is missing, there are more than `max_columns`, or the file is not CSV.
    """
    names, lines_above = _header(path, wanted, max_columns, unnamed)
    skipped: list[int] = []

    def skip(row: pacsv.InvalidRow) -> str:
        skipped.append(row.number)
        what = f"{row.actual_columns} instead of {row.expected_columns} values"
        findings.problems.append(Problem(path.name, row.number, what))
        return "skip"

    try:
        reader = pacsv.open_csv(
            path,
            # One thread, as rows are not numbered otherwise. Blank lines are kept, to count them.
            read_options=pacsv.ReadOptions(
                use_threads=False, block_size=block, column_names=names, skip_rows=lines_above
            ),
            parse_options=pacsv.ParseOptions(invalid_row_handler=skip, ignore_empty_lines=False),
            convert_options=pacsv.ConvertOptions(
                include_columns=list(wanted), column_types={name: pa.string() for name in wanted}
            ),
        )
        yield from _numbered(reader, skipped, lines_above)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:  # ArrowKeyError: a duplicate column
        raise DataError(f"{path} cannot be read as CSV ({error}). Get the file again. {DOCS}") from None


def _header(
    path: Path, wanted: Sequence[str], max_columns: int, unnamed: Sequence[str] | None
) -> tuple[list[str], int]:
    """Column names, and the number of header lines to skip."""
    try:
        with regular(path).open(encoding="utf-8-sig", newline="") as file:
            first = next(csv.reader(short_lines(path, file)), [])
    except (UnicodeDecodeError, csv.Error):
        raise DataError(f"{path} is not a CSV text file. Get it again. {DOCS}") from None
    names = [name.strip() for name in first]
    check_columns(path, names, max_columns)
    if unnamed and len(names) == len(unnamed) and not set(names) & set(unnamed):
        return list(unnamed), 0
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(map(repr, missing))} (it has {', '.join(map(repr, names)) or 'none'}): "
            f"this is a different file, or an edited one. {DOCS}"
        )
    return names, 1


def _numbered(reader: pacsv.CSVStreamingReader, skipped: list[int], lines_above: int) -> Iterator[Rows]:
    """Blocks of `reader` with lines and positions; `skipped` are the numbers of the lines left out so far."""
    line, num_blank = lines_above + 1, 0
    for batch in reader:
        line_N = np.setdiff1d(np.arange(line, line + len(batch) + len(skipped)), skipped)[: len(batch)]
        is_blank_N = np.logical_and.reduce([_is_empty(column) for column in batch.columns])
        position_N = line_N - lines_above - 1 - num_blank - np.cumsum(is_blank_N)
        keep_N = ~is_blank_N
        yield Rows(line_N[keep_N], position_N[keep_N], batch.filter(pa.array(keep_N)))
        if len(batch):
            line, num_blank = int(line_N[-1]) + 1, num_blank + int(is_blank_N.sum())


def _is_empty(column: pa.Array) -> np.ndarray:
    return np.asarray(pc.equal(column, "").to_numpy(zero_copy_only=False))


def short_lines(path: Path, file: TextIO) -> Iterator[str]:
    """Yields the lines of `file`, with their ends. Raises DataError for one that is too long, after a part of it."""
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise DataError(f"{path} has a line of more than {MAX_LINE:,} characters. It is no list of images.")
        yield line


def check_columns(path: Path, names: Sequence[str], max_columns: int) -> None:
    """Raises DataError if a header has more than `max_columns` names."""
    if len(names) > max_columns:
        raise DataError(
            f"{path} has {len(names):,} columns, more than data.max_columns, {max_columns:,}. Remove those without use."
        )
