from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.data.vote_labels import CONTEMPT, KEPT, REASONS, Labels, label_faces, shares
from nla.errors import DataError

EIGHT = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
SPLITS = {"Training": "train", "PublicTest": "valid", "PrivateTest": "test"}

Vote = list[int]


def by_rule(votes: list[Vote], rule: str, named: list[bool] | None = None, contempt: bool = True) -> Labels:
    named_N = np.array(named or [True] * len(votes))
    return label_faces(np.full(len(votes), -1), np.array(votes), named_N, EIGHT, rule, contempt)


def outcome(labels: Labels) -> list[str]:
    """Class or reason of each face."""
    return [
        labels.classes[label] if reason == KEPT else REASONS[reason]
        for label, reason in zip(labels.label_N, labels.reason_N, strict=True)
    ]


def majority_in_words(vote: Vote, classes: tuple[str, ...]) -> str | None:
    """The official rule for one row, in plain Python."""
    counted = {i: n for i, n in enumerate(vote) if n > 1}
    if not counted:
        return None
    winner = max(counted, key=lambda i: counted[i])
    over_half = counted[winner] > sum(counted.values()) / 2
    return classes[winner] if over_half and winner < len(classes) else None


def test_majority_row_by_row() -> None:
    votes = [
        [6, 0, 1, 1, 0, 0, 0, 0, 2, 0],  # 6 of 8 once the single votes are gone
        [5, 0, 0, 5, 0, 0, 0, 0, 0, 0],  # half is not over half
        [3, 1, 1, 1, 1, 1, 1, 1, 0, 0],  # 3 of 3
        [2, 0, 0, 0, 0, 0, 0, 0, 8, 0],  # unknown wins
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 10],  # no face
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],  # nothing remains
        [4, 0, 0, 0, 0, 0, 0, 0, 3, 3],  # what is no class counts in the half
    ]
    assert outcome(by_rule(votes, "majority")) == [
        "neutral",
        "no majority",
        "neutral",
        "majority for no emotion",
        "majority for no emotion",
        "no majority",
        "no majority",
    ]


def test_argmax_takes_the_first_on_ties_and_leaves_out_the_unnamed_and_the_faceless() -> None:
    votes = [[0, 3, 3, 0, 0, 0, 0, 0, 4, 0], [9, 1, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 2, 8]]
    labels = by_rule(votes, "argmax", named=[True, False, True])
    assert outcome(labels) == ["happiness", "no image name", "no vote for an emotion"]
    assert outcome(by_rule(votes, "votes", named=[True, False, True])) == outcome(labels)
    np.testing.assert_allclose(labels.votes_NC[0], [0, 0.5, 0.5, 0, 0, 0, 0, 0])
    assert np.isnan(labels.votes_NC[2]).all()


def test_without_contempt_its_votes_are_gone_before_the_rule_counts() -> None:
    votes = [[4, 0, 0, 0, 0, 0, 0, 5, 0, 0], [0, 0, 0, 0, 0, 0, 0, 9, 0, 0]]
    assert outcome(by_rule(votes, "argmax")) == [CONTEMPT, CONTEMPT]
    labels = by_rule(votes, "argmax", contempt=False)
    assert outcome(labels) == ["neutral", "no vote for an emotion"]
    assert labels.classes == EIGHT[:7]
    np.testing.assert_allclose(labels.votes_NC[0], [1, 0, 0, 0, 0, 0, 0])


def test_a_label_of_its_own_comes_before_the_votes_and_contempt_is_left_out_by_it() -> None:
    classes = ("anger", CONTEMPT, "fear")
    votes_NV = np.array([[9, 1, 0], [0, 9, 1], [0, 0, 9], [9, 0, 1]])
    labels = label_faces(np.array([2, 1, 0, -1]), votes_NV, np.ones(4, bool), classes, "majority", contempt=False)
    assert outcome(labels) == ["fear", CONTEMPT, "anger", "anger"]
    assert labels.label_N.tolist() == [1, -1, 0, 0]


def test_a_source_without_votes_keeps_its_labels_under_any_rule() -> None:
    for rule in ("majority", "argmax", "votes"):
        labels = label_faces(np.array([1, 0, -1]), np.empty((3, 0)), np.zeros(3, bool), ("a", "b"), rule)
        assert outcome(labels) == ["b", "a", "no label"]
        assert labels.votes_NC.shape == (3, 2)
        assert np.isnan(labels.votes_NC).all()


def test_contempt_is_a_class_unless_it_is_left_out() -> None:
    labels = label_faces(np.array([7, -1]), np.empty((2, 0)), np.ones(2, bool), EIGHT, "majority")
    assert outcome(labels) == [CONTEMPT, "no label"]
    assert (labels.label_N.dtype, labels.reason_N.dtype) == (np.int8, np.int8)
    assert labels.label_N.tolist() == [7, -1]


def test_shares_of_single_votes_and_of_fractions() -> None:
    share_NC = shares(np.array([[1, 0, 0], [0.1, 0.3, 9], [0, 0, 5]]), 2)
    assert share_NC.dtype == np.float32
    np.testing.assert_allclose(share_NC, [[1, 0], [0.25, 0.75], [np.nan, np.nan]], rtol=1e-6)
    nothing_NC = shares(np.empty((2, 0)), 3)
    assert (nothing_NC.dtype, nothing_NC.shape) == (np.float32, (2, 3))
    assert np.isnan(nothing_NC).all()


def test_a_label_outside_the_classes_is_an_error() -> None:
    for first in (8, 9):
        message = rf"^row 1 of the faces: expected a label below 8 \(got {first}\)\. Run `dvc repro -f ingest`\.$"
        with pytest.raises(DataError, match=message):
            label_faces(np.array([7, first, 11]), np.empty((3, 0)), np.ones(3, bool), EIGHT, "majority")


@given(st.lists(st.lists(st.integers(0, 10), min_size=10, max_size=10), min_size=1, max_size=20))
def test_majority_agrees_with_the_rule_in_words(votes: list[Vote]) -> None:
    labels = by_rule(votes, "majority")
    kept = [labels.classes[c] if c >= 0 else None for c in labels.label_N]
    assert kept == [majority_in_words(vote, EIGHT) for vote in votes]


@pytest.mark.parametrize(
    ("rule", "contempt", "rows"),
    [
        ("majority", True, {"train": 25060, "valid": 3199, "test": 3153}),
        ("argmax", True, {"train": 28559, "valid": 3579, "test": 3573}),
        ("votes", True, {"train": 28559, "valid": 3579, "test": 3573}),
        ("majority", False, {"train": 25212, "valid": 3225, "test": 3172}),
    ],
)
def test_official_counts(ferplus_dir: Path, rule: str, contempt: bool, rows: dict[str, int]) -> None:
    with (ferplus_dir / "fer2013new.csv").open(newline="") as file:
        table = list(csv.reader(file))[1:]
    votes = [[int(n) for n in row[2:]] for row in table]
    labels = by_rule(votes, rule, [bool(row[1]) for row in table], contempt)
    counts = Counter((SPLITS[row[0]], kept) for row, kept in zip(table, outcome(labels), strict=True))
    in_split = {split: [counts[split, name] for name in labels.classes] for split in ("train", "valid", "test")}
    assert {split: sum(per_class) for split, per_class in in_split.items()} == rows
    if rule == "majority" and contempt:
        assert in_split["train"] == [8740, 7287, 3149, 3014, 2100, 119, 532, 119]
        assert in_split["test"] == [1090, 893, 396, 384, 273, 18, 83, 16]
