"""Entropy and ambiguity, row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.evaluation.uncertainty import ambiguity, entropy, log


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
