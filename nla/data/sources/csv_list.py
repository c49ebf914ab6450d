"""Images with a list, `root/faces.csv`, that gives each a label or the votes of its annotators.

The list has one image per line, as written by hand or by a spreadsheet. Lists of many thousand lines of pixels are read
by nla.data.sources.csv_rows instead.
"""

from __future__ import annotations

import csv
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from nla.config.data import DataConfig
from nla.data.problems import Problem
from nla.data.sources.base import DOCS, MAX_CLASSES, SPLIT_NAMES, Findings, require
from nla.data.sources.csv_rows import check_columns, short_lines
from nla.data.sources.image_files import Listed, read_faces
from nla.data.sources.numbering import check_splits
from nla.data.sources.unread_files import unread
from nla.errors import DataError
from nla.io import regular

LIST = "faces.csv"
IMAGE, SPLIT, LABEL = "image", "split", "label"
NON_CLASSES = ("unknown", "NF")
"""Vote columns for non-classes, as named in FERPlus."""
COLUMNS = f"{IMAGE},{SPLIT},{LABEL}, or {IMAGE},{SPLIT} and a column of votes for each class, with commas between"
DIGITS = 4  # of a vote count, so that it fits int16


class CSVList:
    """Reads a list with the columns image, split and label; without label, all others are classes with votes."""

    name = "csv"
    known_counts: Mapping[str, tuple[int, ...]] = {}

    def __init__(self, config: DataConfig, root: Path) -> None:
        self._root, self._found = root, Findings()
        self._limits = config.image_limits
        require(root / LIST, advice=f"Write it, with {COLUMNS}.")
        named: set[str] = set()
        columns, rows = read_list(root / LIST, self._found, named, config.max_columns)
        self.votes: tuple[str, ...] = ()
        if LABEL in columns:
            self.classes = tuple(sorted({row.values[LABEL] for row in rows if row.split == "train"} - {""}))
        else:
            self.classes = tuple(name for name in columns if name not in NON_CLASSES)
            self.votes = (*self.classes, *(name for name in NON_CLASSES if name in columns))
            self._found.notes.append(f"columns of {LIST} taken as classes: {', '.join(self.classes)}")
        is_spoilt = LABEL in columns and self._found.problems  # ingest refuses it, with the problems
        if not self.classes and not is_spoilt:
            raise DataError(
                f"{root / LIST} has neither labels in train nor columns of votes: it needs {COLUMNS}. {DOCS}"
            )
        if len(self.classes) > MAX_CLASSES:
            raise DataError(f"{root / LIST} has {len(self.classes)} classes: at most {MAX_CLASSES} are possible")
        if not self.votes:
            check_splits(LIST, self.classes, ((row.split, row.values[LABEL]) for row in rows))
        self._listed = [item for row in rows if (item := self._annotated(row))]
        self._found.warnings += unread(root, {LIST, *named}, f"{LIST} does not name them")

    def __len__(self) -> int:
        return len(self._listed)

    def batches(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Batches in the order of the list."""
        findings.add(self._found)
        yield from read_faces(self._root, self._listed, findings, limits=self._limits)

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


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the list: an image and its split."""

    line: int
    """Line number, counted from 1 as in an editor."""
    position: int
    """Position among the rows, from 0."""
    image: str
    """Normalised path, relative to the list's folder."""
    split: str
    values: Mapping[str, str]
    """The other columns, by name."""


def read_list(path: Path, findings: Findings, named: set[str], max_columns: int) -> tuple[list[str], list[Row]]:
    """Column names other than image and split, and the rows; bad lines become problems.

    The images of all lines, good or bad, are added to `named`.

    Raises:
        DataError: the file is not CSV in UTF-8, or does not have the columns of a list.
    """
    lines = _lines(path)
    _, first = next(lines, (1, []))
    names = [name.strip() for name in first]
    check_columns(path, names, max_columns)
    _check_names(path, names)
    return [name for name in names if name not in (IMAGE, SPLIT)], list(_rows(path, names, lines, findings, named))


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row that is not blank; for a quoted cell with line breaks, the line of the row's end."""
    with regular(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(short_lines(path, file), strict=True)
        try:
            for cells in reader:
                if any(cells):
                    yield reader.line_num, cells
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(
                f"{path}, after line {reader.line_num}: not CSV in UTF-8 ({error}). Save it as such."
            ) from None


def _check_names(path: Path, names: Sequence[str]) -> None:
    if missing := [name for name in (IMAGE, SPLIT) if name not in names]:
        has = ", ".join(map(repr, names)) or "none"
        raise DataError(f"{path} has no column {' and '.join(missing)} (it has {has}): it needs {COLUMNS}. {DOCS}")
    known = {name.lower(): name for name in (IMAGE, SPLIT, LABEL, *NON_CLASSES)}
    count = Counter(names)
    for name in names:
        if not name:
            raise DataError(f"{path} has a column without a name. Remove it, or name it in line 1.")
        if count[name] > 1:
            raise DataError(f"{path} has two columns {name}. Remove one.")
        if (meant := known.get(name.lower(), name)) != name:
            raise DataError(f"{path} has a column {name}: write {meant} if that is meant, or rename it")


def _rows(
    path: Path, names: Sequence[str], lines: Iterator[tuple[int, list[str]]], findings: Findings, named: set[str]
) -> Iterator[Row]:
    seen: dict[str, int] = {}
    for position, (line, cells) in enumerate(lines):
        if len(cells) != len(names):
            findings.problems.append(Problem(path.name, line, f"{len(cells)} instead of {len(names)} values"))
            continue
        values = dict(zip(names, map(str.strip, cells), strict=True))
        image = posixpath.normpath(values[IMAGE])
        named.add(image)
        if wrong := _problem_of(values.pop(IMAGE), image, values[SPLIT], seen):
            findings.problems.append(Problem(path.name, line, wrong))
            continue
        seen[image] = line
        yield Row(line, position, image, SPLIT_NAMES[values.pop(SPLIT).lower()], values)


def _problem_of(image: str, path: str, split: str, seen: Mapping[str, int]) -> str | None:
    """Checks an image as it is written, its normalised `path`, and its split; returns what is wrong, or None."""
    if not image or "\0" in image:
        return "it names no image"
    if path.startswith(("/", "../")):
        return f"{image} is not below the folder of the list: DVC would not see it change"
    if path in seen:
        return f"{image} is listed twice, in line {seen[path]} too"
    if split.lower() not in SPLIT_NAMES:
        return f"{SPLIT} is {split!r}, not train, valid or test"
    return None
