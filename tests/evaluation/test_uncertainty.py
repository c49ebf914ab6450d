"""Entropy and ambiguity, row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.evaluation.uncertainty import (
    ambiguity,
    entropy,
    label_probability,
    log,
    most_ambiguous,
    most_doubted,
    most_wrong,
)


@st.composite
def distributions(draw: st.DrawFn) -> np.ndarray:
    rows, classes = draw(st.integers(1, 8)), draw(st.integers(2, 6))
    weights = [[draw(st.integers(0, 9)) for _ in range(classes)] for _ in range(rows)]
    return np.array([[w / sum(row) for w in row] if any(row) else [1 / classes] * classes for row in weights])


@given(distributions())
def test_against_each_row_by_hand(p_NC: np.ndarray) -> None:
    for row, h, a in zip(p_NC.tolist(), entropy(p_NC), ambiguity(p_NC), strict=True):
        assert h == pytest.approx(sum(p * math.log(1 / p) for p in row if p > 0))
        second, first = sorted(row)[-2:]
        assert a == pytest.approx(1 - first + second)


def test_certainty_and_ties_are_the_ends() -> None:
    p = np.array([[1, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]], np.float32)
    np.testing.assert_allclose(entropy(p), [0, math.log(2), math.log(3)], atol=1e-6)
    np.testing.assert_allclose(ambiguity(p), [0, 1, 1], atol=1e-6)


def test_a_single_class_is_sure() -> None:
    assert ambiguity(np.ones((2, 1))).tolist() == [0, 0]


def test_the_logarithm_of_nothing_is_finite() -> None:
    assert -88 < log(np.zeros(1))[0] < -87


P = np.array([[0.5, 0.5, 0.0], [0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.4, 0.3, 0.3], [0.1, 0.9, 0.0]])


def test_the_probability_of_each_label() -> None:
    assert label_probability(P, np.array([1, 0, 2, 2, 1])).tolist() == [0.5, 0.9, 0.1, 0.3, 0.9]


def test_the_most_doubted_come_first_and_ties_keep_their_order() -> None:
    assert most_doubted(P, np.array([1, 0, 2, 2, 1])).tolist() == [2, 3, 0, 1, 4]
    tied = np.tile([[0.3, 0.7]], (40, 1))
    assert most_doubted(tied, np.arange(40) % 2).tolist() == [*range(0, 40, 2), *range(1, 40, 2)]


def test_the_most_ambiguous_have_the_closest_two() -> None:
    assert most_ambiguous(P, 5).tolist() == [0, 3, 2, 1, 4]
    assert most_ambiguous(P, 2).tolist() == [0, 3]
    assert most_ambiguous(np.tile(P[1:3], (20, 1)), 40).tolist() == [*range(1, 40, 2), *range(0, 40, 2)]


def test_the_most_wrong_are_the_surest_errors_and_nothing_else() -> None:
    label_N = np.array([1, 1, 1, 2, 0])
    assert most_wrong(P, label_N, 5).tolist() == [1, 4, 0, 3]
    assert most_wrong(P, label_N, 1).tolist() == [1]
    assert most_wrong(np.tile(P[2:4], (20, 1)), np.full(40, 2), 40).tolist() == [*range(0, 40, 2), *range(1, 40, 2)]


def test_half_and_single_precision_are_computed_in_double() -> None:
    for dtype in (np.float16, np.float32):
        p_NC = np.array([[0.7, 0.2, 0.1], [0.6, 0.4, 0.0]], dtype)
        for function in (log, entropy, ambiguity):
            found = function(p_NC)
            assert found.dtype == np.float64
            np.testing.assert_array_equal(found, function(p_NC.astype(np.float64)))
