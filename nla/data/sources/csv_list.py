"""Any images with a list of them, `root/faces.csv`: a label each, or the votes of its annotators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa

from nla.config.data import DataConfig
from nla.data.sources.base import Findings, Problem
from nla.data.sources.csv_rows import read_header, read_rows
from nla.data.sources.files import Listed, read_faces
from nla.data.sources.layout import DOCS, MOST_CLASSES, SPLIT_NAMES, require
from nla.errors import DataError

LIST = "faces.csv"
IMAGE, SPLIT, LABEL = "image", "split", "label"
NO_CLASS = ("unknown", "NF")
"""Columns of votes for no expression, as FERPlus names them."""
MOST_VOTES = 9999  # four digits, which int16 holds


class Row(NamedTuple):
    """A line of the list, as it is written there."""

    line: int
    position: int
    """Among the rows, from 0."""
    image: str
    split: str
    values: list[str]
    """The label alone, or the votes for each class and for what is none."""


class CSVList:
    """The list has the columns image, split and label. Without label, every other column is a class with its votes."""

    name = "csv"
    known_counts: Mapping[str, tuple[int, ...]] = {}

    def __init__(self, config: DataConfig, root: Path) -> None:
        self._root, self._path, self._found = root, root / LIST, Findings()
        require(self._path, advice=f"Write it, with the columns {IMAGE}, {SPLIT} and {LABEL}.")
        others = [name for name in read_header(self._path) if name not in (IMAGE, SPLIT)]
        voted = [name for name in others if name not in NO_CLASS]
        if LABEL in others:
            self.votes: tuple[str, ...] = ()
            rows = list(self._rows([LABEL]))
            self.classes = tuple(
                sorted({row.values[0] for row in rows if SPLIT_NAMES.get(row.split) == "train"} - {""})
            )
        else:
            self.classes = tuple(voted)
            self.votes = (*self.classes, *(name for name in NO_CLASS if name in others))
            rows = list(self._rows(self.votes))
        self._check_classes()
        self._listed = list(self._list(rows))

    def __len__(self) -> int:
        return len(self._listed)

    def batches(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Batches in the order of the list."""
        findings.add(self._found)
        yield from read_faces(self._root, self._listed, findings)

    def _check_classes(self) -> None:
        if not self.classes:
            raise DataError(f"{self._path} has neither labels in train nor a column of votes for each class. {DOCS}")
        if len(self.classes) > MOST_CLASSES:
            raise DataError(f"{self._path} has {len(self.classes)} classes: at most {MOST_CLASSES} are possible")

    def _rows(self, columns: Sequence[str]) -> Iterator[Row]:
        for rows in read_rows(self._path, (IMAGE, SPLIT, *columns), self._found):
            image_N, split_N, *value_KN = (column.to_pylist() for column in rows.columns.columns)
            where = (rows.line_N.tolist(), rows.position_N.tolist())
            for line, position, image, split, *values in zip(*where, image_N, split_N, *value_KN, strict=True):
                stripped = [value.strip() for value in values]
                yield Row(line, position, image.strip(), split.strip().lower(), stripped)

    def _list(self, rows: Sequence[Row]) -> Iterator[Listed]:
        seen: dict[str, int] = {}
        for row in rows:
            if wrong := self._what_is_wrong(row, seen):
                self._found.problems.append(Problem(LIST, row.line, wrong))
                continue
            seen[row.image] = row.line
            votes = tuple(map(int, row.values)) if self.votes else None
            label = None if self.votes else self.classes.index(row.values[0])
            yield Listed(row.position, SPLIT_NAMES[row.split], row.image, label, LIST, row.line, votes)

    def _what_is_wrong(self, row: Row, seen: Mapping[str, int]) -> str | None:
        path = PurePosixPath(row.image)
        if not row.image:
            return "it names no image"
        if path.is_absolute() or ".." in path.parts:
            return f"{row.image} is not below the folder of the list: DVC would not see it change"
        if row.image in seen:
            return f"{row.image} is listed twice, in line {seen[row.image]} too"
        if row.split not in SPLIT_NAMES:
            return f"{SPLIT} is {row.split!r}, not train, valid or test"
        return self._wrong_votes(row.values) if self.votes else self._wrong_label(row.values[0])

    def _wrong_label(self, label: str) -> str | None:
        if label in self.classes:
            return None
        return f"train has no label {label!r} (it has {', '.join(self.classes)})" if label else "it has no label"

    def _wrong_votes(self, counts: Sequence[str]) -> str | None:
        pairs = zip(self.votes, counts, strict=True)
        wrong = [f"{name} is {text!r}" for name, text in pairs if not (_is_count(text) and int(text) <= MOST_VOTES)]
        if wrong:
            return f"{', '.join(wrong)}: votes are whole numbers from 0 to {MOST_VOTES}"
        return None if any(map(int, counts)) else "all votes are zero"


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal()
