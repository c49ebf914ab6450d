"""What every source gives: record batches of FACES, and findings about what it read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True)
class Problem:
    """One bad line of a text file, or a bad file."""

    file: str
    line: int | None
    """As an editor counts: the first is 1."""
    what: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.line is None else f', line {self.line}'}: {self.what}"


@dataclass
class Findings:
    """Filled while a source is read: `problems` are bad rows, `warnings` want a look, `notes` are known oddities."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, others: Findings) -> None:
        """Those that were made elsewhere, such as when a list was read."""
        self.problems += others.problems
        self.warnings += others.warnings
        self.notes += others.notes


class Source(Protocol):
    """A data set on disk, or drawn."""

    name: str
    classes: tuple[str, ...]
    votes: tuple[str, ...]
    """Names of the vote counts: the classes first, then what is no class. Empty without annotators."""
    known_counts: Mapping[str, tuple[int, ...]]
    """Published counts a class for each split, to compare with; empty where none are known."""

    def batches(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Record batches of FACES with the good rows; the bad ones go into `findings.problems`."""
        ...

    def __len__(self) -> int:
        """Rows to expect, for the progress bar."""
        ...
