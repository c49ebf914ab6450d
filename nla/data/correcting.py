"""Applies corrections to planned samples: the last step of the plan, after the label rule, all draws and the noise.

A correction is made to the label that was given to training, so it comes after everything that decides that label. The
draws of the validation split, of imbalance and of noise are the same with corrections and without them. A row whose
label another seed or rate of the noise has changed no longer has the `old` label of its correction, which is an error.

Legend: N faces, C classes, M lines of corrections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nla.config.base import nearest
from nla.data.corrections import Correction, Corrections
from nla.data.problems import Problem, error_lines
from nla.data.schema import OUT, SPLITS, TEST, TRAIN, Corrected
from nla.errors import DataError


@dataclass(frozen=True)
class Labelled:
    """What corrections change of N faces."""

    split_N: np.ndarray
    """Index in SPLITS, or OUT; int8."""
    label_N: np.ndarray
    """Labels given to training, int8."""
    clean_N: np.ndarray
    """What labels are compared with: those before noise, or of the majority under `fer2013`; int8."""
    target_NC: np.ndarray
    """Distributions to learn instead of the labels, float32; NaN rows where the label is to be learnt."""


@dataclass(frozen=True)
class Result:
    """The faces after the corrections, and what was done."""

    faces: Labelled
    is_corrected_N: np.ndarray
    """Mask of the rows in a split with another label or with a distribution, bool."""
    counts: Mapping[str, Corrected]
    """Per split."""
    report: dict[str, Any]


def correct(
    corrections: Corrections,
    faces: Labelled,
    image_N: np.ndarray,
    hashes: pa.Array,
    classes: Sequence[str],
    *,
    has_reference: Sequence[bool],
    test_too: bool,
    listing: Path | None = None,
) -> Result:
    """Applies all corrections, or none.

    A line changes every row of train and validation, and of test with `test_too`, that has its image and its old label.
    Lines about images that are in the data but that no split has, as after `data.train_rows`, are counted and change
    nothing.

    Args:
        corrections: content of the file.
        faces: the plan so far.
        image_N: index of each face's image in `hashes`.
        hashes: hashes of the images' pixels, all different.
        classes: names of the C classes.
        has_reference: per split, whether `clean_N` has labels from elsewhere, with which corrected labels can be
            compared. Without one, a corrected label is the best that is known, and becomes the clean one.
        test_too: whether rows of test may be corrected.
        listing: file that lists all problems if there are many; the error then shows only the first.

    Raises:
        DataError: a line cannot be applied, which names every such line; or a class or split has no row left.
    """
    matching = _Matching(corrections, faces, image_N, hashes, classes, test_too)
    rows_M = [matching.rows(line) for line in corrections.lines]
    if problems := [*corrections.problems, *matching.problems]:
        first = (
            f"data.corrections: {len(problems):,} lines of {corrections.file} do not fit the data. Correct them, or "
            "audit this data again (docs/audit.md). Nothing was applied."
        )
        raise DataError("\n".join([first, *error_lines(problems, listing)]))
    result = _applied(corrections.lines, rows_M, faces, list(classes), has_reference)
    _check_left(result.faces, faces, classes)
    was_wrong_N = faces.label_N != faces.clean_N
    facts = {
        "file": str(corrections.file),
        "sha256": corrections.sha256,
        "lines": len(corrections.lines),
        "not_in_the_splits": sum(rows is None for rows in rows_M),
        "splits": {name: counts.model_dump() for name, counts in result.counts.items()},
        "right_again": int((was_wrong_N & result.is_corrected_N & (result.faces.label_N == faces.clean_N)).sum()),
        "correct_test": test_too,
    }
    return replace(result, report=facts)


class _Matching:
    """Finds the rows that a line is about, and collects what does not fit."""

    def __init__(
        self,
        corrections: Corrections,
        faces: Labelled,
        image_N: np.ndarray,
        hashes: pa.Array,
        classes: Sequence[str],
        test_too: bool,
    ) -> None:
        self.problems: list[Problem] = []
        self._file, self._faces, self._test_too = corrections.file.name, faces, test_too
        self._names = list(classes)
        self._order = np.argsort(image_N, kind="stable")
        self._sorted = image_N[self._order]
        wanted = [line.image for line in corrections.lines]
        found = pc.index_in(pa.array(wanted, hashes.type), value_set=hashes)
        self._index = dict(zip(wanted, found.to_pylist(), strict=True))

    def rows(self, line: Correction) -> np.ndarray | None:
        """The rows of a line; None if no split has its image, or after a problem."""
        try:
            return self._rows(line)
        except ValueError as wrong:
            self.problems.append(Problem(self._file, line.line, str(wrong)))
            return None

    def _rows(self, line: Correction) -> np.ndarray | None:
        unknown = [name for name in (line.old, line.new, *line.shares) if name is not None and name not in self._names]
        if unknown:
            raise ValueError(f"unknown label '{unknown[0]}'{nearest(unknown[0], self._names)}")
        index = self._index[line.image]
        if index is None:
            raise ValueError("no image of data/faces.parquet has this hash")
        begin, end = np.searchsorted(self._sorted, [index, index + 1])
        rows: np.ndarray = self._order[begin:end]
        rows = rows[self._faces.split_N[rows] != OUT]
        if not rows.size:
            return None
        matching: np.ndarray = rows[self._faces.label_N[rows] == self._names.index(line.old)]
        if not matching.size:
            raise ValueError(self._other_label(line, rows[0]))
        if not self._test_too:
            matching = matching[self._faces.split_N[matching] != TEST]
            if not matching.size:
                raise ValueError("the image is in test. Remove the line, or set data.correct_test: true")
        return matching

    def _other_label(self, line: Correction, row: np.intp) -> str:
        given, clean = (self._names[labels[row]] for labels in (self._faces.label_N, self._faces.clean_N))
        before = f", and {clean} before the noise" if given != clean else ""
        return f"the image is not labelled {line.old} but {given}{before}"


def _applied(
    lines: Sequence[Correction],
    rows_M: Sequence[np.ndarray | None],
    faces: Labelled,
    names: list[str],
    has_reference: Sequence[bool],
) -> Result:
    split_N, label_N, clean_N, target_NC = (
        array.copy() for array in (faces.split_N, faces.label_N, faces.clean_N, faces.target_NC)
    )
    is_corrected_N = np.zeros(len(split_N), bool)
    counts = {split: dict.fromkeys(Corrected.model_fields, 0) for split in SPLITS}
    for line, rows in zip(lines, rows_M, strict=True):
        if rows is None:
            continue
        for split in faces.split_N[rows].tolist():
            counts[SPLITS[split]][line.action] += 1
        if line.action == "drop":
            split_N[rows] = OUT
        elif line.new is not None:
            label_N[rows] = names.index(line.new)
            target_NC[rows] = [line.shares.get(name, 0.0) for name in names] if line.shares else np.nan
            is_corrected_N[rows] = True
    follows_N = is_corrected_N & ~np.asarray(has_reference)[faces.split_N]
    clean_N[follows_N] = label_N[follows_N]
    corrected = {split: Corrected(**found) for split, found in counts.items()}
    return Result(Labelled(split_N, label_N, clean_N, target_NC), is_corrected_N, corrected, {})


def _check_left(after: Labelled, before: Labelled, classes: Sequence[str]) -> None:
    """Raises DataError if a class of train, or a split, has no row any more."""
    lost = [
        f"no training label of {name}"
        for label, name in enumerate(classes)
        if not ((after.split_N == TRAIN) & (after.label_N == label)).any()
        and ((before.split_N == TRAIN) & (before.label_N == label)).any()
    ]
    lost += [f"no image of {name}" for split, name in enumerate(SPLITS) if not (after.split_N == split).any()]
    if lost:
        raise DataError(f"data.corrections: {'; '.join(lost)} is left. Correct or drop fewer of them.")
