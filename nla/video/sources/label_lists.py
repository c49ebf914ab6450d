"""Lists of labels: of the frames of a video, VIDEO.csv, and of whole clips, clips.csv."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from nla.config.base import nearest
from nla.data.problems import Problem
from nla.data.sources.base import DOCS, SPLIT_NAMES, Findings
from nla.data.sources.csv_rows import check_columns, short_lines
from nla.data.sources.numbering import is_whole
from nla.errors import DataError
from nla.io import regular
from nla.video.sources.clip_files import MAX_FRAME, Line

FRAME, LABEL, TIME, VIDEO, SPLIT = "frame", "label", "time", "video", "split"
VOTE_DIGITS = 4  # of a count, so that it fits int16


def read_list(path: Path, needed: Sequence[str], max_columns: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields line number and values of each row of a CSV file, without blank rows; the header first, as line 1.

    Raises:
        DataError: it is no CSV in UTF-8, or a column of `needed` is missing, or there are too many.
    """
    try:
        with regular(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(short_lines(path, file))
            names = [name.strip() for name in next(reader, [])]
            check_columns(path, names, max_columns)
            if missing := [name for name in needed if name not in names]:
                raise DataError(f"{path}: no column {', '.join(missing)} (it has {', '.join(names) or 'none'}). {DOCS}")
            if len({*names}) < len(names):
                raise DataError(f"{path}: two columns with the same name. Rename one. {DOCS}")
            yield 1, {name: name for name in names}
            for row in reader:
                if any(value.strip() for value in row):
                    padded = [*row, *[""] * (len(names) - len(row))]
                    yield reader.line_num, dict(zip(names, (value.strip() for value in padded), strict=False))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error}). Get it again. {DOCS}") from None


def frame_labels(path: Path, max_columns: int) -> set[str]:
    """The labels that a list of frames names. Raises DataError as `read_list`."""
    rows = read_list(path, (FRAME, LABEL), max_columns)
    return {values[LABEL] for line, values in rows if line > 1} - {""}


def frame_lines(
    path: Path, listing: str, classes: Sequence[str], findings: Findings, max_columns: int
) -> tuple[dict[int, Line], frozenset[int]]:
    """Frame number -> line of a list of frames, and the frames whose line is bad; every bad line is a problem.

    Raises:
        DataError: as `read_list`.
    """
    good: dict[int, Line] = {}
    bad: set[int] = set()
    for number, values in read_list(path, (FRAME, LABEL), max_columns):
        if number == 1:
            continue
        frame = values[FRAME]
        if not is_whole(frame) or not 0 <= int(frame) <= MAX_FRAME:
            findings.problems.append(Problem(listing, number, f"frame must be a whole number (got {frame!r})"))
            continue
        if int(frame) in good or int(frame) in bad:
            findings.problems.append(Problem(listing, number, f"frame {int(frame)} has a line already"))
            good.pop(int(frame), None)  # which of the two is right is not known
            bad.add(int(frame))
        elif problem := _problem(values, classes):
            findings.problems.append(Problem(listing, number, f"frame {int(frame)}: {problem}"))
            bad.add(int(frame))
        else:
            time = float(values[TIME]) if values.get(TIME) else math.nan
            label = classes.index(values[LABEL]) if values[LABEL] else None
            good[int(frame)] = Line(number, label, time)
    return good, frozenset(bad)


def _problem(values: Mapping[str, str], classes: Sequence[str]) -> str | None:
    if values[LABEL] and values[LABEL] not in classes:
        return f"unknown label {values[LABEL]!r}{nearest(values[LABEL], classes)}"
    try:
        is_time = not values.get(TIME) or 0 <= float(values[TIME]) < math.inf
    except ValueError:
        is_time = False
    return None if is_time else f"time must be seconds from the start (got {values[TIME]!r})"


class WholeClips:
    """clips.csv: a label, or votes, for all frames of a clip."""

    def __init__(self, path: Path, classes: tuple[str, ...] | None, findings: Findings, max_columns: int) -> None:
        (_, header), *rows = read_list(path, (VIDEO,), max_columns)
        columns = [name for name in header if name not in (VIDEO, SPLIT, LABEL)]
        self.votes: tuple[str, ...] = () if LABEL in header else tuple(columns)
        if LABEL not in header and len(columns) < 2:
            raise DataError(f"{path}: needs a column {LABEL}, or one of votes for each class. {DOCS}")
        named = {values[LABEL] for _, values in rows} - {""} if LABEL in header else set()
        self.classes = classes or self.votes or tuple(sorted(named))
        if self.votes and self.votes != self.classes:
            raise DataError(f"clips.classes: must be the columns of votes of {path}, {', '.join(self.votes)}, or null.")
        self.lines: dict[str, Line] = {}
        self.splits: dict[str, str] = {}
        self.bad: set[str] = set()
        for number, values in rows:
            self._add(number, values, path.name, findings)

    def _add(self, number: int, values: Mapping[str, str], file: str, findings: Findings) -> None:
        video = values[VIDEO]
        problem = "has a line already" if video in self.lines or video in self.bad else self._problem(values)
        if problem:
            findings.problems.append(Problem(file, number, f"video {video}: {problem}"))
            self.bad.add(video)
            self.lines.pop(video, None)
            return
        votes = tuple(int(values[name]) for name in self.votes) or None
        label = self.classes.index(values[LABEL]) if values.get(LABEL) else None
        if votes is not None:
            label = int(np.argmax(votes))
        self.lines[video] = Line(None, label, votes=votes)
        if values.get(SPLIT):
            self.splits[video] = SPLIT_NAMES[values[SPLIT].lower()]

    def _problem(self, values: Mapping[str, str]) -> str | None:
        if values.get(SPLIT) and values[SPLIT].lower() not in SPLIT_NAMES:
            return f"unknown split {values[SPLIT]!r}{nearest(values[SPLIT], [*SPLIT_NAMES])}"
        if not self.votes:
            return _problem(values, self.classes)
        counts = [values[name] for name in self.votes]
        if wrong := [count for count in counts if not (count.isdecimal() and len(count) <= VOTE_DIGITS)]:
            return f"votes must be whole numbers of up to {VOTE_DIGITS} digits (got {wrong[0]!r})"
        return None if any(int(count) for count in counts) else "has no vote"
