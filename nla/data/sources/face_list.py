"""Reads `faces.csv`, with one image per line, as written by hand or by a spreadsheet."""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nla.data.sources.base import Findings, Problem
from nla.data.sources.layout import DOCS, SPLIT_NAMES
from nla.errors import DataError

IMAGE, SPLIT, LABEL = "image", "split", "label"
NO_CLASS = ("unknown", "NF")
"""Vote columns for non-classes, as named in FERPlus."""
FORM = f"{IMAGE},{SPLIT},{LABEL}, or {IMAGE},{SPLIT} and a column of votes for each class, with commas between"


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


def read_list(path: Path, findings: Findings) -> tuple[list[str], list[Row]]:
    """Column names other than image and split, and the rows; bad lines become problems.

    Raises:
        DataError: the file is not CSV in UTF-8, or does not have the columns of a list.
    """
    lines = _lines(path)
    _, first = next(lines, (1, []))
    names = [name.strip() for name in first]
    _check(path, names)
    return [name for name in names if name not in (IMAGE, SPLIT)], list(_rows(path, names, lines, findings))


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row that is not blank; for a quoted cell with line breaks, the line of the row's end."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            for cells in reader:
                if any(cells):
                    yield reader.line_num, cells
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(
                f"{path}, after line {reader.line_num}: no CSV in UTF-8 ({error}): save it as such"
            ) from None


def _check(path: Path, names: Sequence[str]) -> None:
    if missing := [name for name in (IMAGE, SPLIT) if name not in names]:
        has = ", ".join(map(repr, names)) or "none"
        raise DataError(f"{path} has no column {' and '.join(missing)} (it has {has}): it needs {FORM}. {DOCS}")
    known = {name.lower(): name for name in (IMAGE, SPLIT, LABEL, *NO_CLASS)}
    for name in names:
        if not name:
            raise DataError(f"{path} has a column without a name: remove it, or name it in line 1")
        if names.count(name) > 1:
            raise DataError(f"{path} has two columns {name}: remove one")
        if (meant := known.get(name.lower(), name)) != name:
            raise DataError(f"{path} has a column {name}: write {meant} if that is meant, or call it otherwise")


def _rows(
    path: Path, names: Sequence[str], lines: Iterator[tuple[int, list[str]]], findings: Findings
) -> Iterator[Row]:
    seen: dict[str, int] = {}
    for position, (line, cells) in enumerate(lines):
        if len(cells) != len(names):
            findings.problems.append(Problem(path.name, line, f"{len(cells)} instead of {len(names)} values"))
            continue
        values = dict(zip(names, map(str.strip, cells), strict=True))
        image = posixpath.normpath(values[IMAGE])
        if wrong := _what_is_wrong(values.pop(IMAGE), image, values[SPLIT], seen):
            findings.problems.append(Problem(path.name, line, wrong))
            continue
        seen[image] = line
        yield Row(line, position, image, SPLIT_NAMES[values.pop(SPLIT).lower()], values)


def _what_is_wrong(image: str, path: str, split: str, seen: Mapping[str, int]) -> str | None:
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
