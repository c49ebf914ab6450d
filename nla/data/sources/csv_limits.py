"""What is checked of a CSV file while it is read: that its lines and its header are not too long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from nla.errors import DataError
from nla.limits import MAX_LINE


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
