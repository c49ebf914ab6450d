"""FERPlus: the faces of `fer2013.csv` with the votes of `fer2013new.csv`, ten for each (Barsoum et al., ICMI 2016).

The two files are joined by row position: the numbers in the image names diverge from it after row 58, some rows have no
name, and some names occur twice. The votes are read first, as a whole; the pixels, `70 80 82 ...`, then pass through in
blocks of rows.
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
from nla.data.parallel import map_in_order
from nla.data.problems import Problem
from nla.data.sources.base import Findings, face_batch, require
from nla.data.sources.csv_rows import Rows, read_rows
from nla.data.sources.numbering import check_numbering
from nla.data.vote_labels import KEPT, label_faces
from nla.errors import DataError

CLASSES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
VOTES = (*CLASSES, "unknown", "NF")
SPLITS = {"Training": "train", "PublicTest": "valid", "PrivateTest": "test"}
VOTERS = 10

# Lines of the official file.
NINE_VOTES_LINE = 10437  # the only line whose votes do not sum to VOTERS
STRAY_LINE, STRAY_NAME = 5276, "fer0006953.png"  # a nearly white image with the votes of another one
SIDE = 48  # side of a FER2013 image, grey
PUBLISHED_ROWS = {"train": 28709, "valid": 3589, "test": 3589}
PUBLISHED_CLASSES = {  # rows per class by the official majority rule
    "train": (8740, 7287, 3149, 3014, 2100, 119, 532, 119),
    "valid": (1182, 865, 415, 351, 287, 24, 62, 13),
    "test": (1090, 893, 396, 384, 273, 18, 83, 16),
}
FER2013_CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")  # by `emotion`, 0 to 6
FER2013_LABELS = [str(label) for label in range(len(FER2013_CLASSES))]


@dataclass(frozen=True)
class Block:
    """N good rows, joined from both files."""

    position_N: np.ndarray
    pixels_NHW: np.ndarray
    split_N: np.ndarray
    name_N: np.ndarray
    votes_NV: np.ndarray
    fer2013_label_N: np.ndarray
    """The column `emotion`, as numbers of CLASSES."""


@dataclass
class Tally:
    """Counts collected while the pixels are streamed."""

    rows: int = 0
    """Rows of the file, good or bad."""
    splits: Counter[str] = field(default_factory=Counter)
    black: int = 0
    labels: set[str] = field(default_factory=set)
    """Values of the column `emotion`."""
    unpaired: int = 0
    """Rows whose valid Usage differs from that of the other file."""


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
        self._found, self._max_columns = Findings(), config.max_columns
        self._annotations = read_votes(self._votes, self._found, config.max_columns)

    def __len__(self) -> int:
        return len(self._annotations)

    def batches(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Yields a record batch per block of fer2013.csv; a block is parsed while the previous one is encoded."""
        tally = Tally()
        findings.add(self._found)
        yield from map_in_order(_encode, self._joined(tally, findings), ahead=1)
        if tally.rows != len(self):
            raise DataError(
                f"{self._pixels} has {tally.rows} rows and {self._votes} has {len(self)}, but row i of the one belongs "
                "to row i of the other. Get both files again, complete and unsorted"
            )
        check_numbering(self._pixels.name, tally.labels, 0, len(FER2013_LABELS) - 1)
        if tally.unpaired:
            raise DataError(
                f"{self._pixels.name} and {self._votes.name}: in {tally.unpaired:,} rows they have different values of "
                "Usage, so row i of the one does not belong to row i of the other, and other rows can be wrong pairs "
                "too. Get both files again, complete and unsorted"
            )
        findings.warnings += [
            f"{split}: {tally.splits[split]:,} rows, published: {published:,}"
            for split, published in PUBLISHED_ROWS.items()
            if tally.splits[split] != published
        ]
        findings.warnings += _other_classes(self._annotations, tally)
        findings.notes += known_oddities(self._annotations)
        if tally.black:
            findings.notes.append(f"images that are all black, kept: {tally.black}")

    def _joined(self, tally: Tally, findings: Findings) -> Iterator[Block]:
        skipped = Findings()
        for rows in read_rows(self._pixels, ("emotion", "pixels", "Usage"), skipped, self._max_columns):
            pixels_NHW, wrong = parse_pixels(rows.columns["pixels"])
            tally.labels.update(pc.unique(rows.columns["emotion"]).to_pylist())
            unpaired = list(self._unpaired(rows))
            tally.unpaired += len(unpaired)
            problems = sorted([*wrong.items(), *_wrong_labels(rows), *_wrong_usages(rows), *unpaired])
            findings.problems += [Problem(self._pixels.name, int(rows.line_N[i]), what) for i, what in problems]
            block = self._join(rows, pixels_NHW, bad=[i for i, _ in problems])
            tally.rows += len(rows.line_N)
            tally.splits.update(block.split_N)
            tally.black += int((~block.pixels_NHW.any(axis=(1, 2))).sum())
            yield block
        tally.rows += len(skipped.problems)
        findings.add(skipped)

    def _join(self, rows: Rows, pixels_NHW: np.ndarray, bad: list[int]) -> Block:
        """The rows that are good in both files."""
        is_good_N = rows.position_N < len(self)
        is_good_N[bad] = False
        is_good_N[is_good_N] = self._annotations.is_good_R[rows.position_N[is_good_N]]
        at = rows.position_N[is_good_N]
        votes = self._annotations
        split_N = np.array([SPLITS[usage] for usage in votes.usage_R[at]], object)
        own_N = pc.index_in(rows.columns["emotion"].filter(pa.array(is_good_N)), value_set=pa.array(FER2013_LABELS))
        number = np.array([CLASSES.index(name) for name in FER2013_CLASSES], np.int8)
        own_label_N = number[own_N.to_numpy(zero_copy_only=False)]
        return Block(at, pixels_NHW[is_good_N], split_N, votes.name_R[at], votes.votes_RV[at], own_label_N)

    def _unpaired(self, rows: Rows) -> Iterator[tuple[int, str]]:
        """Rows whose Usage differs from the other file's, which shows that they do not match."""
        votes = self._annotations
        for i, usage in enumerate(rows.columns["Usage"].to_pylist()):
            at = rows.position_N[i]
            if usage in SPLITS and at < len(votes) and votes.is_good_R[at] and usage != votes.usage_R[at]:
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
                    yield f"{split}: {rows:,} rows of {name} by majority, published: {expected:,}"


def _wrong_usages(rows: Rows) -> Iterator[tuple[int, str]]:
    for i, usage in enumerate(rows.columns["Usage"].to_pylist()):
        if usage not in SPLITS:
            yield i, f"Usage is {usage!r}, not {', '.join(SPLITS)}"


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
        fer2013_label=block.fer2013_label_N,
        pixels=[pixel_hash(pixels) for pixels in block.pixels_NHW],
        data=[encode_png(pixels) for pixels in block.pixels_NHW],
        path=block.name_N,
    )


@dataclass(frozen=True)
class Votes:
    """R rows, by position; the fields of a bad row are empty."""

    is_good_R: np.ndarray
    line_R: np.ndarray
    usage_R: np.ndarray
    name_R: np.ndarray
    """Image name; empty as well if a good row has none."""
    votes_RV: np.ndarray
    """Vote counts, int16 [R, V]."""

    @classmethod
    def empty(cls, size: int) -> Votes:
        """`size` rows, all of them bad."""
        usage_R, name_R = np.full((2, size), "", object)
        votes_RV = np.zeros((size, len(VOTES)), np.int16)
        return cls(np.zeros(size, bool), np.zeros(size, np.int64), usage_R, name_R, votes_RV)

    def __len__(self) -> int:
        return len(self.is_good_R)


def read_votes(path: Path, findings: Findings, max_columns: int) -> Votes:
    """Reads all rows of `path`; bad ones become problems.

    Raises:
        DataError: a column is missing, or there are more than `max_columns`.
    """
    skipped = Findings()
    blocks = list(read_rows(path, ("Usage", "Image name", *VOTES), skipped, max_columns))
    votes = Votes.empty(len(skipped.problems) + sum(len(rows.line_N) for rows in blocks))
    findings.add(skipped)
    for rows in blocks:
        findings.problems += [Problem(path.name, line, what) for line, what in _fill(votes, rows)]
    return votes


def known_oddities(votes: Votes) -> Iterator[str]:
    """Oddities of the official file that need no fixing."""
    is_named_R = votes.name_R != ""
    if unnamed := np.count_nonzero(votes.is_good_R & ~is_named_R):
        yield f"rows without an image name, kept: {unnamed}"
    if no_face := np.count_nonzero(votes.is_good_R & (votes.votes_RV[:, -1] == votes.votes_RV.sum(axis=1))):
        yield f"rows with votes only for NF (no face), kept though no label rule finds them a label: {no_face}"
    repeated = sorted(name for name, times in Counter(votes.name_R[is_named_R]).items() if times > 1)
    if repeated:
        yield f"image names that occur more than once, kept: {len(repeated)} ({', '.join(repeated[:4])})"
    if incomplete := np.count_nonzero(votes.is_good_R & (votes.votes_RV.sum(axis=1) != VOTERS)):
        yield f"rows with {VOTERS - 1} votes, kept: {incomplete} (line {NINE_VOTES_LINE})"
    if STRAY_NAME in votes.name_R[votes.line_R == STRAY_LINE]:
        yield f"line {STRAY_LINE} gives a nearly white image the votes of {STRAY_NAME}, kept"


def _fill(votes: Votes, rows: Rows) -> Iterator[tuple[int, str]]:
    """Copies the good ones of `rows` into `votes` by position; yields line and problem of the bad ones."""
    texts_VN = [rows.columns[name] for name in VOTES]
    is_count_NV = np.stack([_flags(pc.match_substring_regex(text_N, r"^[0-9]{1,4}$")) for text_N in texts_VN], axis=1)
    counts_NV = np.stack([_counts(*pair) for pair in zip(texts_VN, is_count_NV.T, strict=True)], axis=1)
    usage_N = rows.columns["Usage"].to_numpy(zero_copy_only=False)
    sum_N = counts_NV.sum(axis=1)
    is_complete_N = (sum_N == VOTERS) | ((rows.line_N == NINE_VOTES_LINE) & (sum_N == VOTERS - 1))
    good_N = is_count_NV.all(axis=1) & np.isin(usage_N, list(SPLITS)) & is_complete_N
    for i in np.flatnonzero(~good_N):
        texts = [text_N[i].as_py() for text_N in texts_VN]
        yield int(rows.line_N[i]), _problem_of(usage_N[i], texts, is_count_NV[i], int(sum_N[i]))
    at = rows.position_N[good_N]
    votes.is_good_R[at] = True
    votes.line_R[at] = rows.line_N[good_N]
    votes.usage_R[at] = usage_N[good_N]
    votes.name_R[at] = rows.columns["Image name"].to_numpy(zero_copy_only=False)[good_N]
    votes.votes_RV[at] = counts_NV[good_N]


def _problem_of(usage: str, texts: list[str], is_count_V: np.ndarray, total: int) -> str:
    if usage not in SPLITS:
        return f"Usage is {usage!r}, not {', '.join(SPLITS)}"
    if not is_count_V.all():
        wrong = [f"{name} is {texts[i]!r}" for i, name in enumerate(VOTES) if not is_count_V[i]]
        return f"{', '.join(wrong)}: votes are whole numbers from 0"
    return f"the votes sum to {total} instead of {VOTERS}" if total else "all votes are zero"


def _counts(text_N: pa.StringArray, is_count_N: np.ndarray) -> np.ndarray:
    return np.asarray(pc.if_else(pa.array(is_count_N), text_N, "0").cast(pa.int16()).to_numpy())


def _flags(values: pa.BooleanArray) -> np.ndarray:
    return np.asarray(values.to_numpy(zero_copy_only=False))


def parse_pixels(text_N: pa.StringArray) -> tuple[np.ndarray, dict[int, str]]:
    """Pixels [N, 48, 48] uint8 from rows of 2,304 numbers, and row -> problem; bad rows stay 0."""
    pixels_NP = np.zeros((len(text_N), SIDE * SIDE), np.uint8)
    values_N = pc.ascii_split_whitespace(pc.ascii_trim_whitespace(text_N))
    is_full_N = pc.equal(pc.list_value_length(values_N), SIDE * SIDE).to_numpy(zero_copy_only=False)
    wrong = {
        int(i): f"{len(text_N[i].as_py().split())} instead of {SIDE * SIDE} pixels" for i in np.flatnonzero(~is_full_N)
    }
    try:
        pixels_NP[is_full_N] = _numbers(values_N.filter(pa.array(is_full_N)).flatten()).reshape(-1, SIDE * SIDE)
    except pa.ArrowInvalid:  # some row of the block has a bad value: find out which
        for i in np.flatnonzero(is_full_N):
            try:
                pixels_NP[i] = _numbers(values_N[i].values)
            except pa.ArrowInvalid:
                wrong[int(i)] = _bad_pixel(values_N[i].as_py())
    return pixels_NP.reshape(-1, SIDE, SIDE), wrong


def _numbers(values: pa.StringArray) -> np.ndarray:
    """Converts to uint8. Raises ArrowInvalid for anything but integers from 0 to 255."""
    return np.asarray(values.cast(pa.uint8()).to_numpy())


def _bad_pixel(values: list[str]) -> str:
    position, value = next(
        (position, value) for position, value in enumerate(values, 1) if not (value.isdecimal() and int(value) < 256)
    )
    return f"pixel {position} is {value[:20]!r}, not a number from 0 to 255"
