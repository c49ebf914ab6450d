"""Derives labels from votes, with the reason if a face gets none (Barsoum et al., ICMI 2016, for FERPlus)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nla.config.data import LabelRule
from nla.errors import DataError

REASONS = (
    "",
    "no majority",
    "majority for no emotion",
    "no vote for an emotion",
    "no image name",
    "contempt",
    "no label",
)
"""Why a face is left out, by code; 0 means that it is kept."""
KEPT, NO_MAJORITY, NO_EMOTION, NO_VOTE, UNNAMED, IS_CONTEMPT, UNLABELLED = range(len(REASONS))

CONTEMPT = "contempt"
DROPPED = -1


@dataclass(frozen=True)
class Labels:
    """Result of the label rule for N faces."""

    classes: tuple[str, ...]
    label_N: np.ndarray
    """Labels, int8 [N]; DROPPED where `reason_N` is not KEPT."""
    reason_N: np.ndarray
    """Codes of REASONS, int8 [N]."""
    votes_NC: np.ndarray
    """Shares of the votes for emotions, float32 [N, C], summing to 1; NaN rows without a vote for an emotion."""


def label_faces(
    label_N: np.ndarray,
    votes_NV: np.ndarray,
    is_named_N: np.ndarray,
    classes: Sequence[str],
    rule: LabelRule,
    contempt: bool = True,
) -> Labels:
    """Labels N faces. A face that the source has labelled keeps its label; the others get one from their votes.

    - `majority`, as FERPlus was published: counts of 1 are outliers and become 0; a face is kept if its largest count
      is over half of what remains, including no-class votes, and belongs to an emotion. `fer2013` is the same here:
      nla.data.fer2013_labels then replaces the labels of train and validation.
    - `argmax`, `votes`: the emotion with the most votes, the first one on ties. Faces without an image name, or
      without a vote for an emotion, are left out. (`votes` uses the shares as the target, only in training: see
      nla.data.sample_plan.)

    Args:
        label_N: integers, -1 where the source gives none.
        votes_NV: counts for the C classes, then for non-classes (`unknown`, `NF`); a row of zeros, or V = 0, means no
            annotators.
        is_named_N: False without an image name.
        classes: names of the C classes.
        rule: label rule.
        contempt: if False, votes for it are removed before the rule is applied, as if that class had not been offered,
            and faces that the source itself labels contempt are left out.

    Raises:
        DataError: a label is outside the classes.
    """
    beyond = np.flatnonzero(label_N >= len(classes))
    if beyond.size:
        raise DataError(
            f"row {beyond[0]} of the faces: expected a label below {len(classes)} (got {label_N[beyond[0]]}). "
            "Run `dvc repro -f ingest`."
        )
    reason_N = np.full(len(label_N), KEPT, np.int8)
    if not contempt and CONTEMPT in classes:
        label_N, votes_NV, reason_N = _without(list(classes).index(CONTEMPT), label_N, votes_NV, reason_N)
        classes = [name for name in classes if name != CONTEMPT]
    by_votes = _by_votes(votes_NV, is_named_N, len(classes), rule)
    is_unlabelled_N = (label_N < 0) & (reason_N == KEPT)
    label_N, reason_N = np.where(is_unlabelled_N, by_votes, (label_N, reason_N)).astype(np.int8)
    return Labels(
        tuple(classes), np.where(reason_N == KEPT, label_N, DROPPED), reason_N, shares(votes_NV, len(classes))
    )


def shares(weight_NV: np.ndarray, num_classes: int) -> np.ndarray:
    """[N, C] float32: the first C columns scaled to sum to 1; NaN rows where they are all 0 or do not exist."""
    if not weight_NV.shape[1]:
        return np.full((len(weight_NV), num_classes), np.nan, np.float32)
    weight_NC = weight_NV[:, :num_classes].astype(np.float64)
    total_N1 = weight_NC.sum(axis=1, keepdims=True)
    share_NC = np.full(weight_NC.shape, np.nan, np.float32)
    np.divide(weight_NC, total_N1, out=share_NC, where=total_N1 > 0, casting="same_kind")
    return share_NC


def _by_votes(
    votes_NV: np.ndarray, is_named_N: np.ndarray, num_classes: int, rule: LabelRule
) -> tuple[np.ndarray, np.ndarray]:
    """Winning class and reason of each face; all are unlabelled if the source has no votes."""
    if not votes_NV.shape[1]:
        return np.full(len(votes_NV), DROPPED), np.full(len(votes_NV), UNLABELLED)
    by_majority = rule in ("majority", "fer2013")
    return _majority(votes_NV, num_classes) if by_majority else _argmax(votes_NV, is_named_N, num_classes)


def _majority(votes_NV: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    counts_NV = np.where(votes_NV <= 1, 0, votes_NV)
    winner_N, most_N = counts_NV.argmax(axis=1), counts_NV.max(axis=1)
    reason_N = np.where(winner_N < num_classes, KEPT, NO_EMOTION)
    return winner_N, np.where(2 * most_N > counts_NV.sum(axis=1), reason_N, NO_MAJORITY)


def _argmax(votes_NV: np.ndarray, is_named_N: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    votes_NC = votes_NV[:, :num_classes]
    reason_N = np.where(votes_NC.any(axis=1), KEPT, NO_VOTE)
    return votes_NC.argmax(axis=1), np.where(is_named_N, reason_N, UNNAMED)


def _without(
    removed: int, label_N: np.ndarray, votes_NV: np.ndarray, reason_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, votes and reasons without class `removed`; later classes move up by one."""
    reason_N = np.where(label_N == removed, IS_CONTEMPT, reason_N)
    label_N = np.where(label_N > removed, label_N - 1, label_N)
    return label_N, np.delete(votes_NV, removed, axis=1) if votes_NV.shape[1] else votes_NV, reason_N
