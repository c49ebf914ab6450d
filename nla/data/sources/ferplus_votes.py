"""Reads `fer2013new.csv`: ten votes per row (Barsoum et al., ICMI 2016), and the known oddities of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nla.data.sources.base import Findings, Problem
from nla.data.sources.csv_rows import Rows, read_rows

CLASSES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
VOTES = (*CLASSES, "unknown", "NF")
SPLITS = {"Training": "train", "PublicTest": "valid", "PrivateTest": "test"}
VOTERS = 10

# Lines of the official file.
NINE_VOTES_LINE = 10437  # the only line whose votes do not sum to VOTERS
STRAY_LINE, STRAY_NAME = 5276, "fer0006953.png"  # a nearly white image with the votes of another one


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


def read_votes(path: Path, findings: Findings) -> Votes:
    """Reads all rows of `path`; bad ones become problems. Raises DataError if a column is missing."""
    torn = Findings()
    blocks = list(read_rows(path, ("Usage", "Image name", *VOTES), torn))
    votes = Votes.empty(len(torn.problems) + sum(len(rows.line_N) for rows in blocks))
    findings.add(torn)
    for rows in blocks:
        findings.problems += [Problem(path.name, line, what) for line, what in _fill(votes, rows)]
    return votes


def known_oddities(votes: Votes) -> Iterator[str]:
    """Oddities of the official file that need no fixing."""
    is_named_R = votes.name_R != ""
    if unnamed := np.count_nonzero(votes.is_good_R & ~is_named_R):
        yield f"rows without an image name, kept: {unnamed}"
    if no_face := np.count_nonzero(votes.is_good_R & (votes.votes_RV[:, -1] == votes.votes_RV.sum(axis=1))):
        yield f"rows with votes for NF (no face) alone, kept though no label rule finds them a label: {no_face}"
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
        yield int(rows.line_N[i]), _what_is_wrong(usage_N[i], texts, is_count_NV[i], int(sum_N[i]))
    at = rows.position_N[good_N]
    votes.is_good_R[at] = True
    votes.line_R[at] = rows.line_N[good_N]
    votes.usage_R[at] = usage_N[good_N]
    votes.name_R[at] = rows.columns["Image name"].to_numpy(zero_copy_only=False)[good_N]
    votes.votes_RV[at] = counts_NV[good_N]


def _what_is_wrong(usage: str, texts: list[str], is_count_V: np.ndarray, total: int) -> str:
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
