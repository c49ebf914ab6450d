"""Images with a list, `root/faces.csv`, that gives each a label or the votes of its annotators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from nla.config.data import DataConfig
from nla.data.sources.base import DOCS, MOST_CLASSES, Findings, Problem, require
from nla.data.sources.image_files import FORM, LABEL, NO_CLASS, Listed, Row, read_faces, read_list
from nla.errors import DataError

LIST = "faces.csv"
DIGITS = 4  # of a vote count, so that it fits int16


class CSVList:
    """Reads a list with the columns image, split and label; without label, all others are classes with votes."""

    name = "csv"
    known_counts: Mapping[str, tuple[int, ...]] = {}

    def __init__(self, config: DataConfig, root: Path) -> None:
        self._root, self._found = root, Findings()
        require(root / LIST, advice=f"Write it, with {FORM}.")
        columns, rows = read_list(root / LIST, self._found)
        self.votes: tuple[str, ...] = ()
        if LABEL in columns:
            self.classes = tuple(sorted({row.values[LABEL] for row in rows if row.split == "train"} - {""}))
        else:
            self.classes = tuple(name for name in columns if name not in NO_CLASS)
            self.votes = (*self.classes, *(name for name in NO_CLASS if name in columns))
            self._found.notes.append(f"columns of {LIST} taken as classes: {', '.join(self.classes)}")
        if not self.classes:
            raise DataError(f"{root / LIST} has neither labels in train nor columns of votes: it needs {FORM}. {DOCS}")
        if len(self.classes) > MOST_CLASSES:
            raise DataError(f"{root / LIST} has {len(self.classes)} classes: at most {MOST_CLASSES} are possible")
        self._listed = [item for row in rows if (item := self._annotated(row))]

    def __len__(self) -> int:
        return len(self._listed)

    def batches(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Batches in the order of the list."""
        findings.add(self._found)
        yield from read_faces(self._root, self._listed, findings)

    def _annotated(self, row: Row) -> Listed | None:
        """The image with its label or votes; None if they are wrong, which is recorded as a problem."""
        label, votes = None, None
        if self.votes:
            wrong = self._wrong_votes(row.values)
            votes = None if wrong else tuple(int(row.values[name]) for name in self.votes)
        else:
            wrong = self._wrong_label(row.values[LABEL])
            label = None if wrong else self.classes.index(row.values[LABEL])
        if wrong:
            self._found.problems.append(Problem(LIST, row.line, wrong))
            return None
        return Listed(row.position, row.split, row.image, label, LIST, row.line, votes)

    def _wrong_label(self, label: str) -> str | None:
        if label in self.classes:
            return None
        return f"train has no label {label!r} (it has {', '.join(self.classes)})" if label else "it has no label"

    def _wrong_votes(self, values: Mapping[str, str]) -> str | None:
        wrong = [f"{name} is {values[name]!r}" for name in self.votes if not _is_count(values[name])]
        if wrong:
            return f"{', '.join(wrong)}: votes are whole numbers from 0 to {'9' * DIGITS}"
        return None if any(int(values[name]) for name in self.votes) else "all votes are zero"


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= DIGITS
