"""The paired interval and the exact test behind `champion`."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.evaluation.significance import mcnemar, paired_difference


def test_matches_a_bootstrap_that_draws_rows() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(500) < 0.8, rng.random(500) < 0.75
    drawn = [rng.integers(0, 500, 500) for _ in range(2000)]
    expected = np.percentile([a[i].mean() - b[i].mean() for i in drawn], [2.5, 97.5])
    difference, low, high = paired_difference(a, b, 4000, 0)
    assert difference == pytest.approx(a.mean() - b.mean())
    np.testing.assert_allclose((low, high), expected, atol=0.008)


def test_covers_the_truth() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(400):
        which = rng.choice(3, 400, p=[0.08, 0.05, 0.87])  # only a, only b, both
        _, low, high = paired_difference(which != 1, which != 0, 400, seed)
        hits += low <= 0.03 <= high
    assert 0.91 * 400 <= hits <= 0.99 * 400


def test_pairing_sees_what_two_intervals_would_miss() -> None:
    b = np.arange(1000) % 5 > 0  # 80 %
    a = b | (np.arange(1000) % 50 == 0)  # 82 %: right wherever b is, and on 20 more
    difference, low, high = paired_difference(a, b, 1000, 0)
    assert difference == pytest.approx(0.02)
    assert 0 < low < difference < high < 0.04


def test_equal_models_do_not_differ() -> None:
    right = np.array([True, False, True])
    assert paired_difference(right, right, 100, 0) == (0, 0, 0)


def test_swapping_changes_the_sign() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 300)) < 0.7
    forth, back = paired_difference(a, b, 2000, 0), paired_difference(b, a, 2000, 0)
    assert forth[0] == -back[0]
    np.testing.assert_allclose(forth[1:], (-back[2], -back[1]), atol=0.01)


def test_one_sample() -> None:
    assert paired_difference([True], [False], 100, 0) == (1, 1, 1)


@pytest.mark.parametrize(("a", "b"), [([], []), ([True], [True, False])])
def test_other_samples_are_no_pairs(a: list[bool], b: list[bool]) -> None:
    with pytest.raises(ValueError, match="same samples"):
        paired_difference(a, b, 100, 0)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_twice_the_tail_of_a_fair_coin(only_a: int, only_b: int) -> None:
    assert mcnemar(only_a, only_b) == pytest.approx(exact_mcnemar(only_a, only_b), rel=1e-9)


def exact_mcnemar(only_a: int, only_b: int) -> float:
    """In integers: exact for any number of rows."""
    rows, fewer = only_a + only_b, min(only_a, only_b)
    ways = itertools.accumulate(range(fewer), lambda way, k: way * (rows - k) // (k + 1), initial=1)
    return min(1.0, 2 * sum(ways) / 2**rows)


def test_mcnemar_of_thousands_of_rows() -> None:
    assert mcnemar(7000, 7300) == pytest.approx(exact_mcnemar(7000, 7300), rel=1e-9)
    assert mcnemar(0, 5000) == 0  # 2 ** -4999 is below what a float holds
