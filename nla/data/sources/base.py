"""What a data source is, and what the sources share: findings, record batches of FACES, checks of the folder's layout.

A source reads the files of one data set, or generates faces, and yields them as record batches. It never stops at a bad
row: it records the problem and continues, so that the user sees all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from nla.data.problems import Problem
from nla.data.schema import FACES, IMAGE_TYPE
from nla.errors import DataError

MAX_CLASSES = 127
"""Labels are int8."""
SPLIT_NAMES = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
"""Common names of splits -> the names in FACES."""
DOCS = "See docs/datasets.md for the layout, and for where to get the files."


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


def face_batch(
    row: Sequence[int] | np.ndarray,
    split: Sequence[str] | np.ndarray,
    pixels: Sequence[bytes],
    data: Sequence[bytes],
    path: Sequence[str] | np.ndarray,
    *,
    label: Sequence[int | None] | np.ndarray | None = None,
    fer2013_label: np.ndarray | None = None,
    votes: Sequence[np.ndarray | tuple[int, ...] | None] | None = None,
    posterior: Sequence[np.ndarray] | None = None,
) -> pa.RecordBatch:
    """A record batch of N faces; `pixels` are their hashes, `data` their encoded images. Omitted columns are null."""
    images = pa.StructArray.from_arrays(
        [pa.array(data, pa.binary()), pa.array(path, pa.string())], fields=list(IMAGE_TYPE)
    )
    given: dict[str, Sequence[Any] | np.ndarray | None] = {"row": row, "split": split, "pixels": pixels}
    given |= {"label": label, "fer2013_label": fer2013_label, "votes": votes, "posterior": posterior}
    columns = [
        images if field.name == "image" else _column(given[field.name], field.type, len(data)) for field in FACES
    ]
    return pa.RecordBatch.from_arrays(columns, schema=FACES)


def _column(values: Sequence[Any] | np.ndarray | None, kind: pa.DataType, size: int) -> pa.Array:
    return pa.nulls(size, kind) if values is None else pa.array(values, kind)


def require(*paths: Path, advice: str) -> None:
    """Raises DataError naming every one of `paths` that is missing, with `advice` on how to get it."""
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise DataError("\n".join([*(f"{path} is missing" for path in missing), f"{advice} {DOCS}"]))


def first_existing(*paths: Path) -> Path:
    """The first of `paths` that exists; the first one if none does."""
    return next((path for path in paths if path.exists()), paths[0])
