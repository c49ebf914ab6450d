"""Interface of data sources: record batches of FACES, and findings about what was read.

Checks that a source's folder is complete; the error says where to get the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from nla.errors import DataError


@dataclass(frozen=True)
class Problem:
    """A bad line of a text file, or a bad file."""

    file: str
    line: int | None
    """Line number, counted from 1 as in an editor."""
    what: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.line is None else f', line {self.line}'}: {self.what}"


@dataclass
class Findings:
    """Collected while a source is read: `problems` are bad rows, `warnings` need a look, `notes` are known oddities."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, others: Findings) -> None:
        """Adds findings made elsewhere, such as while reading a list."""
        self.problems += others.problems
        self.warnings += others.warnings
        self.notes += others.notes


class Source(Protocol):
    """A data set on disk, or a generated one."""

    name: str
    classes: tuple[str, ...]
    votes: tuple[str, ...]
    """Names of the vote counts: the classes first, then non-classes. Empty without annotators."""
    known_counts: Mapping[str, tuple[int, ...]]
    """Published class counts of each split, for comparison; empty if unknown."""

    def batches(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Yields record batches of FACES with the good rows; bad ones are appended to `findings.problems`."""
        ...

    def __len__(self) -> int:
        """Expected number of rows, for the progress bar."""
        ...


MOST_CLASSES = 127  # labels are int8
SPLIT_NAMES = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
"""Common names of splits -> their names here."""
DOCS = "docs/datasets.md shows the layout and says where to get the files."


def require(*paths: Path, advice: str) -> None:
    """Raises DataError naming every one of `paths` that is missing, with `advice` on how to get it."""
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise DataError("\n".join([*(f"{path} is missing" for path in missing), f"{advice} {DOCS}"]))


def first_of(*paths: Path) -> Path:
    """The first of `paths` that exists; the first one if none does."""
    return next((path for path in paths if path.exists()), paths[0])
