"""The confident joint against loops over rows, and its intervals against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.audit.confident_joint import (
    class_thresholds,
    confident_class,
    joint_counts,
    wrong_labels,
)


def by_hand(p_NC: np.ndarray, label_N: np.ndarray) -> np.ndarray:
    """The calibrated joint, row by row."""
    classes = p_NC.shape[1]
    rows = [[n for n in range(len(label_N)) if label_N[n] == c] for c in range(classes)]
    threshold = [sum(p_NC[n, c] for n in rows[c]) / len(rows[c]) if rows[c] else float("inf") for c in range(classes)]
    joint = np.zeros((classes, classes))
    for given_class in range(classes):
        for n in rows[given_class]:
            sure = [c for c in range(classes) if p_NC[n, c] >= threshold[c]]
            if sure:
                joint[given_class, max(sure, key=lambda c: p_NC[n, c])] += 1
        if joint[given_class].sum() == 0:
            joint[given_class, given_class] = 1
        joint[given_class] *= len(rows[given_class]) / joint[given_class].sum()
    return joint


def drawn(seed: int, rows: int, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(classes, 0.4), rows), rng.integers(0, classes, rows)


@given(seed=st.integers(0, 100), rows=st.integers(1, 30))
def test_the_joint_is_that_of_the_rows(seed: int, rows: int) -> None:
    p_NC, label_N = drawn(seed, rows)
    joint_CC = joint_counts(p_NC, label_N)
    np.testing.assert_allclose(joint_CC, by_hand(p_NC, label_N), atol=1e-9)
    np.testing.assert_allclose(joint_CC.sum(axis=1), np.bincount(label_N, minlength=4))


@given(seed=st.integers(0, 30))
def test_a_row_that_counts_twice_is_two_rows(seed: int) -> None:
    p_NC, label_N = drawn(seed, 20)
    times_N = np.random.default_rng(seed).integers(0, 3, 20)
    repeated = joint_counts(np.repeat(p_NC, times_N, axis=0), np.repeat(label_N, times_N))
    np.testing.assert_allclose(joint_counts(p_NC, label_N, times_N), repeated, atol=1e-9)


def test_thresholds_and_classes_of_single_rows() -> None:
    p_NC = np.array([[0.8, 0.2, 0.0], [0.6, 0.4, 0.0], [0.3, 0.7, 0.0]])
    threshold_C = class_thresholds(p_NC, np.array([0, 0, 1]))
    np.testing.assert_allclose(threshold_C, [0.7, 0.7, np.inf])
    assert confident_class(p_NC, threshold_C).tolist() == [0, -1, 1]


def test_the_number_of_wrong_labels_is_found_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(4)
    true_N = rng.integers(0, 3, 900)
    label_N = np.where(rng.random(900) < 0.2, (true_N + rng.integers(1, 3, 900)) % 3, true_N)
    p_NC = 0.9 * np.eye(3)[true_N] + 0.1 * rng.dirichlet(np.ones(3), 900)
    found = wrong_labels(p_NC, label_N, seed=0, resamples=200)
    wrong = [int(((label_N == c) & (true_N != c)).sum()) for c in range(3)]
    np.testing.assert_allclose(found.estimate, [*wrong, sum(wrong)], rtol=0.05)
    assert (found.low < found.estimate).all() and (found.estimate < found.high).all()
    # The spread of a count of rows that are drawn with replacement.
    spread = np.sqrt(sum(wrong) * (1 - sum(wrong) / 900))
    assert found.high[-1] - found.low[-1] == pytest.approx(2 * 1.96 * spread, rel=0.2)


def test_the_seed_decides_the_interval() -> None:
    p_NC, label_N = drawn(0, 40)
    first, again, other = (wrong_labels(p_NC, label_N, seed, 20) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.low, again.low)
    assert (first.low != other.low).any()
