"""FERPlus: the faces of `fer2013.csv` with the votes of `fer2013new.csv`.

The two files are joined by row position: the numbers in the image names diverge from it after row 58, some rows have no
name, and some names occur twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nla.config.data import DataConfig
from nla.data.images import encode_png, pixel_hash
from nla.data.labels import KEPT, label_faces
from nla.data.sources.base import Findings, Problem
from nla.data.sources.batch import face_batch
from nla.data.sources.csv_rows import Rows, read_rows
from nla.data.sources.ferplus_pixels import parse_pixels
from nla.data.sources.ferplus_votes import CLASSES, SPLITS, VOTES, Votes, known_oddities, read_votes
from nla.data.sources.layout import require
from nla.data.sources.pool import in_order
from nla.errors import DataError

PUBLISHED_ROWS = {"train": 28709, "valid": 3589, "test": 3589}
PUBLISHED_CLASSES = {  # rows per class by the official majority rule
    "train": (8740, 7287, 3149, 3014, 2100, 119, 532, 119),
    "valid": (1182, 865, 415, 351, 287, 24, 62, 13),
    "test": (1090, 893, 396, 384, 273, 18, 83, 16),
}
FER2013_LABELS = [str(label) for label in range(7)]  # of the column `emotion`, which the votes replace


@dataclass(frozen=True)
class Block:
    """N good rows, joined from both files."""

    position_N: np.ndarray
    pixels_NHW: np.ndarray
    split_N: np.ndarray
    name_N: np.ndarray
    votes_NV: np.ndarray


@dataclass
class Tally:
    """Counts collected while the pixels are streamed."""

    rows: int = 0
    """Rows of the file, good or bad."""
    splits: Counter[str] = field(default_factory=Counter)
    black: int = 0


class FERPlus:
    """Reads `root` with fer2013.csv and fer2013new.csv."""

    name = "ferplus"
    classes: tuple[str, ...] = CLASSES
    votes: tuple[str, ...] = VOTES
    known_counts: Mapping[str, tuple[int, ...]] = {}  # it has votes, but no labels to count

    def __init__(self, config: DataConfig, root: Path) -> None:
        self._pixels, self._votes = root / "fer2013.csv", root / "fer2013new.csv"
        advice = f"Put fer2013.csv (from Kaggle) and fer2013new.csv (from the FERPlus repository) into {root}."
        require(self._pixels, self._votes, advice=advice)
        self._found = Findings()
        self._annotations = read_votes(self._votes, self._found)

    def __len__(self) -> int:
        return len(self._annotations)

    def batches(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Yields a record batch per block of fer2013.csv; a block is parsed while the previous one is encoded."""
        tally = Tally()
        findings.add(self._found)
        yield from in_order(_encode, self._joined(tally, findings), ahead=1)
        if tally.rows != len(self):
            raise DataError(
                f"{self._pixels} has {tally.rows} rows and {self._votes} has {len(self)}, but row i of the one belongs "
                "to row i of the other: get both files again, whole and unsorted"
            )
        findings.warnings += [
            f"{split}: {tally.splits[split]:,} rows, published are {published:,}"
            for split, published in PUBLISHED_ROWS.items()
            if tally.splits[split] != published
        ]
        findings.warnings += _other_classes(self._annotations, tally)
        findings.notes += known_oddities(self._annotations)
        if tally.black:
            findings.notes.append(f"images that are all black, kept: {tally.black}")

    def _joined(self, tally: Tally, findings: Findings) -> Iterator[Block]:
        torn = Findings()
        for rows in read_rows(self._pixels, ("emotion", "pixels", "Usage"), torn):
            pixels_NHW, wrong = parse_pixels(rows.columns["pixels"])
            problems = sorted([*wrong.items(), *_wrong_labels(rows), *self._wrong_usages(rows)])
            findings.problems += [Problem(self._pixels.name, int(rows.line_N[i]), what) for i, what in problems]
            block = self._join(rows, pixels_NHW, bad=[i for i, _ in problems])
            tally.rows += len(rows.line_N)
            tally.splits.update(block.split_N)
            tally.black += int((~block.pixels_NHW.any(axis=(1, 2))).sum())
            yield block
        tally.rows += len(torn.problems)
        findings.add(torn)

    def _join(self, rows: Rows, pixels_NHW: np.ndarray, bad: list[int]) -> Block:
        """The rows that are good in both files."""
        is_good_N = rows.position_N < len(self)
        is_good_N[bad] = False
        is_good_N[is_good_N] = self._annotations.is_good_R[rows.position_N[is_good_N]]
        at = rows.position_N[is_good_N]
        votes = self._annotations
        split_N = np.array([SPLITS[usage] for usage in votes.usage_R[at]], object)
        return Block(at, pixels_NHW[is_good_N], split_N, votes.name_R[at], votes.votes_RV[at])

    def _wrong_usages(self, rows: Rows) -> Iterator[tuple[int, str]]:
        """Rows whose Usage differs from the other file's, which shows that they do not match."""
        votes = self._annotations
        for i, usage in enumerate(rows.columns["Usage"].to_pylist()):
            at = rows.position_N[i]
            if usage not in SPLITS:
                yield i, f"Usage is {usage!r}, not {', '.join(SPLITS)}"
            elif at < len(votes) and votes.is_good_R[at] and usage != votes.usage_R[at]:
                where = f"line {votes.line_R[at]} of {self._votes.name}"
                yield i, f"Usage is {usage}, but {votes.usage_R[at]} in {where}"


def _other_classes(votes: Votes, tally: Tally) -> Iterator[str]:
    """A line for each class whose number of rows differs from the published one, in splits that are complete."""
    split_R = np.array([SPLITS.get(usage) for usage in votes.usage_R], object)
    labels = label_faces(np.full(len(votes), -1), votes.votes_RV, votes.is_good_R, CLASSES, "majority")
    for split, published in PUBLISHED_CLASSES.items():
        if tally.splits[split] == PUBLISHED_ROWS[split]:
            kept_R = (split_R == split) & (labels.reason_N == KEPT)
            found_C = np.bincount(labels.label_N[kept_R], minlength=len(CLASSES))
            for name, rows, expected in zip(CLASSES, found_C.tolist(), published, strict=True):
                if rows != expected:
                    yield f"{split}: {rows:,} rows of {name} by majority, published are {expected:,}"


def _wrong_labels(rows: Rows) -> Iterator[tuple[int, str]]:
    label_N = rows.columns["emotion"]
    is_label_N = pc.is_in(label_N, value_set=pa.array(FER2013_LABELS)).to_numpy(zero_copy_only=False)
    for i in np.flatnonzero(~is_label_N):
        yield int(i), f"emotion is {label_N[i].as_py()!r}, not a label from 0 to {len(FER2013_LABELS) - 1}"


def _encode(block: Block) -> pa.RecordBatch:
    return face_batch(
        row=block.position_N,
        split=block.split_N,
        votes=list(block.votes_NV),
        pixels=[pixel_hash(pixels) for pixels in block.pixels_NHW],
        data=[encode_png(pixels) for pixels in block.pixels_NHW],
        path=block.name_N,
    )
