"""Interface of data sources: record batches of FACES, and findings about what was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa


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
