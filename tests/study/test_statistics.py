"""Comparisons of methods: against slow re-derivations, and on simulated studies whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nla.evaluation.significance import mcnemar
from nla.study.statistics import Difference, Discordant, differences, discordant, holm, pooled

SEEDS, ROWS, CLASSES = 4, 300, 3


def trained(
    rng: np.random.Generator, label_N: np.ndarray, hard_N: np.ndarray, skill: float, level: float
) -> np.ndarray:
    """Predictions [S, N] of a method: right where a row is not too hard for its skill, its seed's level, and chance."""
    luck_SN = level * rng.normal(size=(SEEDS, 1)) + 0.5 * rng.normal(size=(SEEDS, len(label_N)))
    of_method_N = 0.5 * rng.normal(size=len(label_N))  # what it takes for hard that another method does not
    return np.where(skill + of_method_N + luck_SN > hard_N, label_N, (label_N + 1) % CLASSES)


def two_methods(seed: int, skills: tuple[float, float] = (1.1, 1.0), level: float = 0.05) -> tuple[np.ndarray, ...]:
    """(a, b, labels)"""
    rng = np.random.default_rng(seed)
    label_N, hard_N = rng.choice(CLASSES, ROWS, p=[0.6, 0.3, 0.1]), rng.normal(size=ROWS)
    return *(trained(rng, label_N, hard_N, skill, level) for skill in skills), label_N


def slow_bootstrap(a_SN: np.ndarray, b_SN: np.ndarray, label_N: np.ndarray, resamples: int) -> np.ndarray:
    """[R, 2] differences of accuracy and mean accuracy, by drawing each seed and row by its number."""
    rng, drawn = np.random.default_rng(9), []
    members = [np.flatnonzero(label_N == c) for c in range(CLASSES)]

    def gain(seed_S: np.ndarray, row_N: np.ndarray) -> float:
        right = [predicted[np.ix_(seed_S, row_N)] == label_N[row_N] for predicted in (a_SN, b_SN)]
        return float(right[0].mean() - right[1].mean())

    for _ in range(resamples):
        seed_S = rng.integers(0, len(a_SN), len(a_SN))
        of_class = [gain(seed_S, rng.choice(rows, len(rows))) for rows in members]
        drawn.append((gain(seed_S, rng.integers(0, len(label_N), len(label_N))), float(np.mean(of_class))))
    return np.array(drawn)


def test_matches_a_bootstrap_that_draws_seeds_and_rows() -> None:
    a, b, label = two_methods(0)
    drawn = slow_bootstrap(a, b, label, 2000)
    found = differences(a, b, label, 8000)
    ends = np.percentile(drawn, [2.5, 97.5], axis=0).T
    for one, expected, spread in zip(found.values(), ends, drawn.std(axis=0), strict=True):
        # the ends of an interval of 2,000 resamples have a standard error of 0.06 standard deviations
        np.testing.assert_allclose((one.low, one.high), expected, atol=0.25 * spread)


def test_the_difference_is_that_of_the_means() -> None:
    a, b, label = two_methods(1)
    found = differences(a, b, label, 100)
    recalls = [[(p[:, label == c] == c).mean() for c in range(CLASSES)] for p in (a, b)]
    assert found["accuracy"].value == pytest.approx((a == label).mean() - (b == label).mean())
    assert found["mean_accuracy"].value == pytest.approx(np.mean(recalls[0]) - np.mean(recalls[1]))


def coverage(level: float, trials: int = 300) -> tuple[float, float]:
    """Of two equally good methods: how often the interval holds zero, and how often p is at most 0.05."""
    found = [differences(*two_methods(t, (1.0, 1.0), level), 400, t)["accuracy"] for t in range(trials)]
    return np.mean([one.low <= 0 <= one.high for one in found]), np.mean([one.p <= 0.05 for one in found])


def test_intervals_hold_the_truth_where_rows_and_chance_rule() -> None:
    """Cautious there, as the docstring says: chance of single rows counts more than once."""
    covered, rejected = coverage(level=0)
    assert 0.94 <= covered <= 1 and rejected <= 0.06


def test_intervals_hold_the_truth_where_seeds_differ_in_level() -> None:
    covered, rejected = coverage(level=0.1)
    assert 0.90 <= covered <= 0.99 and 0.01 <= rejected <= 0.10


def test_four_seeds_that_rule_make_it_too_bold() -> None:
    """What is said about it, so that nobody takes such an interval for 95 %."""
    covered, _ = coverage(level=1.0)
    assert 0.70 <= covered <= 0.92


def test_p_is_roughly_uniform_where_one_training_meets_another() -> None:
    p = []
    for trial in range(400):
        which = np.random.default_rng(trial).choice(3, 1000, p=[0.1, 0.1, 0.8])  # only a, only b, both right
        p.append(differences((which == 1)[None], (which == 0)[None], np.zeros(1000), 500, trial)["accuracy"].p)
    assert stats.kstest(p, "uniform").statistic < 0.1  # 1.63 / sqrt(400): the 1 % point is 0.08, and p comes in steps


def test_one_seed_draws_rows_alone() -> None:
    a, b, label = two_methods(2)
    one = differences(a[:1], b[:1], label, 8000)["accuracy"]
    gain = (a[0] == label).astype(int) - (b[0] == label)
    assert one.high - one.low == pytest.approx(2 * 1.96 * gain.std() / np.sqrt(ROWS), rel=0.08)


def test_the_order_of_the_seeds_changes_nothing() -> None:
    a, b, label = two_methods(3)
    for order in ([2, 0, 3, 1], [3, 2, 1, 0]):
        assert differences(a[order], b[order], label, 200) == differences(a, b, label, 200)


def test_seeds_are_paired() -> None:
    """Seeds that lift both methods alike are no reason to doubt which is better."""
    rng = np.random.default_rng(4)
    label, hard = np.zeros(ROWS, int), rng.normal(size=ROWS)
    level = np.array([-1, -0.5, 0.5, 1])[:, None]
    a, b = (np.where(skill + level > hard, 0, 1) for skill in (0.2, 0.0))
    assert differences(a, b, label, 1000)["accuracy"].low > 0
    assert differences(a, b[::-1], label, 1000)["accuracy"].low < 0


def test_the_seed_is_0_unless_given() -> None:
    a, b, label = two_methods(4)
    assert differences(a, b, label, 200) == differences(a, b, label, 200, seed=0)
    assert differences(a, b, label, 200) != differences(a, b, label, 200, seed=1)


def test_a_method_does_not_differ_from_itself() -> None:
    a, _, label = two_methods(5)
    assert set(differences(a, a, label, 200).values()) == {Difference(0, 0, 0, 1)}
    assert pooled(discordant(a, a, label)) == Discordant(0, 0, 1)


def test_better_everywhere_is_the_surest_there_is() -> None:
    label = np.zeros(50, int)
    found = differences(np.zeros((2, 50)), np.ones((2, 50)), label, 999)
    assert set(found.values()) == {Difference(1, 1, 1, 2 / 1000)}


def test_the_other_point_of_view() -> None:
    assert -Difference(0.1, -0.1, 0.3, 0.4) == Difference(-0.1, -0.3, 0.1, 0.4)


def test_a_class_of_one_row_never_vanishes() -> None:
    label = np.array([0] * 99 + [1])
    a, b = np.tile(label, (2, 1)), np.zeros((2, 100), int)
    assert differences(a, b, label, 200)["mean_accuracy"] == Difference(0.5, 0.5, 0.5, 2 / 201)


@pytest.mark.parametrize("shapes", [((2, 5), (3, 5), 5), ((2, 5), (2, 5), 4), ((0, 5), (0, 5), 5), ((5,), (5,), 5)])
def test_what_does_not_fit_is_refused(shapes: tuple) -> None:
    a, b, rows = shapes
    with pytest.raises(ValueError, match="seeds, rows"):
        differences(np.zeros(a), np.zeros(b), np.zeros(rows))


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_twice_the_tail_of_a_fair_coin(only_a: int, only_b: int) -> None:
    assert mcnemar(only_a, only_b) == pytest.approx(exact_mcnemar(only_a, only_b), rel=1e-9)


def exact_mcnemar(only_a: int, only_b: int) -> float:
    """In integers: exact for any number of rows."""
    rows, fewer = only_a + only_b, min(only_a, only_b)
    return min(1.0, 2 * sum(math.comb(rows, k) for k in range(fewer + 1)) / 2**rows)


def test_mcnemar_of_thousands_of_rows() -> None:
    assert mcnemar(7000, 7300) == pytest.approx(exact_mcnemar(7000, 7300), rel=1e-9)
    assert mcnemar(0, 5000) == 0  # 2 ** -4999 is below what a float holds


def test_discordant_rows_of_each_seed_and_of_all() -> None:
    label = np.zeros(6, int)
    a, b = np.array([[0, 0, 0, 1, 1, 0], [0, 0, 1, 1, 1, 1]]), np.array([[1, 1, 1, 0, 1, 0], [1, 0, 1, 1, 1, 1]])
    of_seeds = discordant(a, b, label)
    assert of_seeds == [Discordant(3, 1, pytest.approx(0.625)), Discordant(1, 0, 1)]
    assert pooled(of_seeds) == Discordant(4, 1, pytest.approx(0.375))


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.9, 0.02]), [1, 1, 0.06])
    assert holm([]).size == 0
    for whole_or_half in ([0, 1], np.array([0.1, 0.2], np.float16)):
        assert holm(whole_or_half).dtype == np.float64


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_steps_reject(p: list[float]) -> None:
    """Down from the smallest, until one is not below alpha / (those left)."""
    adjusted = holm(p)
    for alpha in (0.05, 0.3):
        left, rejected = sorted(range(len(p)), key=lambda i: p[i]), set()
        while left and p[left[0]] * len(left) <= alpha:
            rejected.add(left.pop(0))
        assert {i for i in range(len(p)) if adjusted[i] <= alpha} == rejected
