"""The interval of a difference: against slow re-derivations, by what must not change it, and on simulated studies."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from nla.study.statistics import Difference, crossed, differences, holm

SEEDS, ROWS, CLASSES = 4, 300, 3
studies = st.tuples(st.integers(2, 4), st.integers(6, 12)).flatmap(
    lambda shape: st.tuples(*(arrays(np.int64, shape, elements=st.integers(0, 2)) for _ in "ab"))
)
"""Predictions [S, N] of two methods."""


def labels(rows: int) -> np.ndarray:
    """Three classes, each with two rows or more."""
    return np.arange(rows) % 3


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


def by_hand(strata: list[list[list[float]]]) -> tuple[float, float, float]:
    """(v, its degrees of freedom, A) by the sums of squares of each stratum's table, one cell at a time."""
    seeds, share = len(strata[0]), 1 / len(strata)
    scores = [sum(share * sum(table[s]) / len(table[s]) for table in strata) for s in range(seeds)]
    centre = sum(scores) / seeds
    a = sum((score - centre) ** 2 for score in scores) / (seeds - 1) / seeds
    v, squares = a, a**2 / (seeds - 1)
    rows_alone = 0.0
    for table in strata:
        n, cells = len(table[0]), range(len(table[0]))
        of_seed = [sum(table[s]) / n for s in range(seeds)]
        of_row = [sum(table[s][i] for s in range(seeds)) / seeds for i in cells]
        mean = sum(of_row) / n
        ms_row = seeds * sum((of_row[i] - mean) ** 2 for i in cells) / (n - 1)
        rest = sum((table[s][i] - of_seed[s] - of_row[i] + mean) ** 2 for s, i in product(range(seeds), cells))
        ms_rest = rest / ((seeds - 1) * (n - 1))
        v += share**2 * (ms_row - ms_rest) / (seeds * n)
        rows_alone += share**2 * ms_row / (seeds * n)
        squares += (share**2 * ms_row / (seeds * n)) ** 2 / (n - 1)
        squares += (share**2 * ms_rest / (seeds * n)) ** 2 / ((seeds - 1) * (n - 1))
    v = max(v, a, rows_alone)
    return v, v**2 / squares if squares else 1.0, a


def interval_by_hand(value: float, strata: list[list[list[float]]]) -> Difference:
    v, df, a = by_hand(strata)
    seeds = len(strata[0])
    ways = [(v, df), (a, seeds - 1)]
    half = max(np.sqrt(variance) * stats.t.ppf(0.975, freedom) for variance, freedom in ways)
    p = max(2 * stats.t.sf(abs(value) / np.sqrt(variance), freedom) if variance else 0 for variance, freedom in ways)
    return Difference(value, value - half, value + half, p if value else 1.0, seeds)


@given(studies)
def test_matches_an_analysis_of_variance_by_hand(study: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = study
    label = labels(a.shape[1])
    gain = (a == label).astype(float) - (b == label)
    found = differences(a, b, label)
    per_class = [gain[:, label == c] for c in range(3)]
    for score, strata in (("accuracy", [gain]), ("mean_accuracy", per_class)):
        value = float(np.mean([table.mean() for table in strata]))
        expected = interval_by_hand(value if abs(value) > 1e-12 else 0.0, [table.tolist() for table in strata])
        ours = found[score]
        assert (ours.value, ours.low, ours.high) == pytest.approx((expected.value, expected.low, expected.high))
        if abs(value) > 1e-9:
            assert ours.p == pytest.approx(expected.p, abs=1e-9)


def test_the_parts_of_the_variance_by_hand() -> None:
    """Two seeds and two rows: mean squares 4, 1 and 0, with one degree of freedom each."""
    found = crossed([np.array([[0.0, 1.0], [2.0, 3.0]])])
    assert (found.value, found.of_seeds, found.of_rows, found.of_rest) == (1.5, 1, 0.25, 0)
    assert found.variance == 1.25 and found.df == pytest.approx(1.25**2 / (1 + 0.25**2))


def test_where_the_rest_exceeds_seeds_and_rows_the_larger_one_counts() -> None:
    """Rows and seeds of the same mean: what is left is not taken off below zero."""
    found = crossed([np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]])])
    assert found.of_seeds + found.of_rows - found.of_rest < found.of_rows == found.variance


@given(studies)
def test_the_other_point_of_view(study: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = study
    found, other = differences(a, b, labels(a.shape[1])), differences(b, a, labels(a.shape[1]))
    for score, ours in found.items():
        assert vars(-other[score]) == pytest.approx(vars(ours))


@given(studies, st.randoms(use_true_random=False))
def test_the_order_of_seeds_and_rows_changes_nothing(
    study: tuple[np.ndarray, np.ndarray], random: st.DataObject
) -> None:
    a, b = study
    seeds, rows = list(range(len(a))), list(range(a.shape[1]))
    random.shuffle(seeds)
    random.shuffle(rows)
    order, label = np.ix_(seeds, rows), labels(a.shape[1])
    found, mixed = differences(a, b, label), differences(a[order], b[order], label[rows])
    for score, ours in found.items():
        assert vars(mixed[score]) == pytest.approx(vars(ours), abs=1e-9)


@given(studies)
def test_p_and_interval_agree(study: tuple[np.ndarray, np.ndarray]) -> None:
    for ours in differences(*study, labels(study[0].shape[1])).values():
        assert ours.low <= ours.value <= ours.high
        if min(abs(ours.low), abs(ours.high)) > 1e-9:
            assert (ours.p < 0.05) == (ours.low > 0 or ours.high < 0)
            assert (ours.p_ahead < 0.05) == (ours.low > 0)


def test_the_difference_is_that_of_the_means() -> None:
    a, b, label = two_methods(1)
    found = differences(a, b, label)
    recalls = [[(p[:, label == c] == c).mean() for c in range(CLASSES)] for p in (a, b)]
    assert found["accuracy"].value == pytest.approx((a == label).mean() - (b == label).mean())
    assert found["mean_accuracy"].value == pytest.approx(np.mean(recalls[0]) - np.mean(recalls[1]))


def test_many_studies_at_once() -> None:
    gain_TSN = np.random.default_rng(0).integers(-1, 2, (5, 3, 20)).astype(float)
    at_once = crossed([gain_TSN])
    for t, gain in enumerate(gain_TSN):
        alone = crossed([gain])
        assert at_once.half_width()[t] == pytest.approx(alone.half_width())
        assert at_once.p()[t] == pytest.approx(alone.p())


@pytest.mark.parametrize("level", [0.0, 0.1, 1.0])
def test_intervals_hold_the_truth(level: float) -> None:
    """Of two equally good methods, whether rows or seeds rule; more cases: benchmarks/coverage_of_intervals.py."""
    found = [differences(*two_methods(trial, (1.0, 1.0), level)) for trial in range(400)]
    for score in ("accuracy", "mean_accuracy"):
        covered = np.mean([one[score].low <= 0 <= one[score].high for one in found])
        assert covered >= 0.92, score  # 2.5 standard errors below .95


def test_one_seed_is_a_t_test_of_its_rows() -> None:
    a, b, label = two_methods(2)
    one = differences(a[:1], b[:1], label)["accuracy"]
    paired = stats.ttest_rel((a[0] == label).astype(float), (b[0] == label).astype(float))
    assert (one.low, one.high) == pytest.approx(tuple(paired.confidence_interval()))
    assert one.p == pytest.approx(paired.pvalue) and one.seeds == 1


def test_rows_without_chance_leave_the_t_interval_of_the_seeds() -> None:
    """All rows alike in a seed: only seeds are random."""
    gain = np.repeat([[0.0], [0.25], [0.5]], 8, axis=1)
    found = crossed([gain])
    expected = stats.t.interval(0.95, 2, 0.25, 0.25 / np.sqrt(3))
    assert (found.value - found.half_width(), found.value + found.half_width()) == pytest.approx(expected)


@given(studies)
def test_never_narrower_than_the_t_interval_of_the_seeds(study: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = study
    label = labels(a.shape[1])
    score_S = (a == label).mean(axis=1) - (b == label).mean(axis=1)
    half = stats.t.ppf(0.975, len(a) - 1) * score_S.std(ddof=1) / np.sqrt(len(a))
    ours = differences(a, b, label)["accuracy"]
    assert (ours.high - ours.low) / 2 >= half - 1e-9


def test_seeds_are_paired() -> None:
    """Seeds that lift both methods alike are no reason to doubt which is better."""
    rng = np.random.default_rng(4)
    label, hard = np.zeros(ROWS, int), rng.normal(size=ROWS)
    level = np.array([-0.4, -0.2, 0.2, 0.4])[:, None]
    a, b = (np.where(skill + level > hard, 0, 1) for skill in (0.2, 0.0))
    assert differences(a, b, label)["accuracy"].low > 0
    assert differences(a, b[::-1], label)["accuracy"].low < 0


def test_a_method_does_not_differ_from_itself() -> None:
    a, _, label = two_methods(5)
    assert set(differences(a, a, label).values()) == {Difference(0, 0, 0, 1, SEEDS)}


def test_what_never_varies_has_no_width() -> None:
    found = differences(np.zeros((2, 50)), np.ones((2, 50)), np.zeros(50))
    assert set(found.values()) == {Difference(1, 1, 1, 0, 2)}


def test_a_class_of_one_row_leaves_mean_accuracy_without_an_interval() -> None:
    label = np.array([0] * 99 + [1])
    a, b = np.tile(label, (2, 1)), np.zeros((2, 100), int)
    assert differences(a, b, label).keys() == {"accuracy"}
    assert differences(a[:, :1], b[:, :1], label[:1]) == {}


@pytest.mark.parametrize("shapes", [((2, 5), (3, 5), 5), ((2, 5), (2, 5), 4), ((0, 5), (0, 5), 5), ((5,), (5,), 5)])
def test_what_does_not_fit_is_refused(shapes: tuple) -> None:
    a, b, rows = shapes
    with pytest.raises(ValueError, match="seeds, rows"):
        differences(np.zeros(a), np.zeros(b), np.zeros(rows))


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
