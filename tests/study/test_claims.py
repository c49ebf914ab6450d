"""What is asked of the weights: each figure against brute force or another library, and on cases worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from nla.data.samples import Annotations
from nla.evaluation.weight import position_weight
from nla.study.claims import auroc, by_fifth, claims_at, doubt, mean_between, minority, weight_claims

N, CLASSES = 600, 4
values = st.lists(st.integers(0, 5).map(float), min_size=5, max_size=40)  # many ties


def annotations(
    votes: Any = None, posterior: Any = None, label: Any = None, flipped: Any = None, rows: int = N
) -> Annotations:
    flipped_N = np.zeros(rows, bool) if flipped is None else np.asarray(flipped)
    return Annotations(votes, posterior, np.zeros(rows, int) if label is None else label, flipped_N)


def places(rng: np.random.Generator) -> np.ndarray:
    p_N3 = rng.dirichlet([1, 1, 1], N).astype(np.float32)
    return p_N3[:, :2]


@given(values, st.integers(0, 2**40))
def test_auroc_is_how_often_a_positive_scores_higher(score: list[float], bits: int) -> None:
    """Ties count half."""
    positive_N, score_N = np.array([bits >> i & 1 for i in range(len(score))], bool), np.array(score)
    found = auroc(score_N, positive_N)
    if positive_N.all() or not positive_N.any():
        assert found is None
    else:
        gap = score_N[positive_N][:, None] - score_N[~positive_N]
        assert found == pytest.approx(((gap > 0) + (gap == 0) / 2).mean())


def test_auroc_by_hand() -> None:
    assert auroc(np.array([3.0, 1, 2, 2]), np.array([True, False, True, False])) == (2 + 1.5) / 4


@given(values)
def test_fifths_are_those_of_any_order_of_the_ties_on_average(by: list[float]) -> None:
    value, by_N = np.arange(len(by)) ** 2.0, np.array(by)
    repeated, rng, found = len(by) * 5, np.random.default_rng(0), []
    for _ in range(300):  # a fifth of 5 n: whole samples, whatever n
        order = np.lexsort((rng.random(repeated), np.repeat(by_N, 5)))
        found.append(np.repeat(value, 5)[order].reshape(5, -1).mean(axis=1))
    np.testing.assert_allclose(by_fifth(value, by_N), np.mean(found, axis=0), atol=0.05 * value.max())


@given(values)
def test_fifths_together_are_all(by: list[float]) -> None:
    value = np.cos(np.arange(len(by)))
    assert np.mean(by_fifth(value, np.array(by))) == pytest.approx(value.mean())


def test_fifths_without_ties_are_plain_means() -> None:
    by = np.random.default_rng(0).permutation(20).astype(float)
    np.testing.assert_allclose(by_fifth(by * 2, by), [3, 11, 19, 27, 35])


def test_the_top_tenth_by_hand() -> None:
    by = np.array([5.0, 5, 5, 1, 1, 1, 1, 1, 1, 1, *[0] * 10])  # two of twenty: two thirds of each of the three
    assert mean_between(np.array([1, 0, 0] + [0] * 17), by, 0.9, 1.0) == pytest.approx(1 / 3)
    assert mean_between(by, by, 0.9, 1.0) == 5


def test_minorities_are_below_the_median_of_the_classes() -> None:
    label = np.repeat([0, 1, 2, 5], [10, 3, 7, 1])  # counts 10, 3, 7, 1: the median is 5
    assert minority(label).tolist() == [False] * 10 + [True] * 3 + [False] * 7 + [True]
    assert not minority(np.repeat([0, 1], 5)).any()


def test_doubt_is_that_of_the_votes_before_that_of_the_posterior() -> None:
    nan = [np.nan] * 2
    votes = np.array([[0.5, 0.5], nan, nan], np.float32)
    posterior = np.array([[1, 0], [0.9, 0.1], nan], np.float32)
    expected = [np.log(2), stats.entropy([0.9, 0.1]), np.nan]
    np.testing.assert_allclose(doubt(annotations(votes, posterior, rows=3)), expected, atol=1e-6)
    assert np.isnan(doubt(annotations(rows=3))).all()


def test_equal_shares_in_another_order_are_a_tie() -> None:
    votes = np.array([[0.7, 0.2, 0.1], [0.1, 0.7, 0.2], [0.2, 0.1, 0.7]], np.float32)
    assert len(set(doubt(annotations(votes, rows=3)).tolist())) == 1


def test_a_perfect_weight() -> None:
    """Zero on what is flipped, growing with doubt elsewhere."""
    rng = np.random.default_rng(0)
    flipped, doubt_N = rng.random(N) < 0.3, rng.random(N)
    p_GT = rng.random(N)
    found = claims_at(p_GT, 1 - p_GT, np.where(flipped, 0, 0.1 + doubt_N), flipped, doubt_N, rng.random(N) < 0.5)
    assert found["flipped_auroc"] == 1
    assert found["weight_correlation"] == pytest.approx(1)
    assert list(found["weight_by_doubt"].values()) == sorted(found["weight_by_doubt"].values())
    assert found["doubtful_weight"] == pytest.approx(1.0 / 0.6, abs=0.05)


def test_every_figure_of_a_moment() -> None:
    rng = np.random.default_rng(1)
    (p_GT, p_NN), weight, doubt_N = places(rng).T, rng.random(N), rng.integers(0, 4, N) / 4
    flipped, minority_N = rng.random(N) < 0.2, rng.random(N) < 0.1
    doubt_N[::7] = np.nan
    found = claims_at(p_GT, p_NN, weight, flipped, doubt_N, minority_N)
    assert found["flipped_auroc"] == pytest.approx(roc_auc_score(flipped, -weight))
    assert found["flipped_auroc_p_GT"] == pytest.approx(roc_auc_score(flipped, -p_GT))
    assert found["minority_of_top_tenth"] == pytest.approx(minority_N[np.argsort(weight)[-60:]].mean())
    asked = ~flipped & ~np.isnan(doubt_N)
    for name, value in (("weight", weight), ("ambiguity", -np.abs(p_GT - p_NN))):
        expected = stats.spearmanr(value[asked], doubt_N[asked]).statistic
        assert found[f"{name}_correlation"] == pytest.approx(expected)


def test_what_is_not_known_is_not_asked() -> None:
    rng = np.random.default_rng(2)
    nothing = np.zeros(N, bool)
    found = claims_at(rng.random(N), rng.random(N), rng.random(N), nothing, np.full(N, np.nan), nothing)
    assert found.keys() == {"flipped_auroc", "flipped_auroc_p_GT", "mean_weight", "minority_of_top_tenth"}
    assert found["flipped_auroc"] is None


def test_a_training_with_naws_own_weight() -> None:
    rng = np.random.default_rng(3)
    early, late = places(rng), places(rng)
    early[:3], late[5] = np.nan, np.nan  # not seen yet
    flipped, label = rng.random(N) < 0.2, rng.choice(CLASSES, N, p=[0.5, 0.3, 0.15, 0.05])
    votes = rng.multinomial(10, [0.4, 0.3, 0.2, 0.1], N).astype(np.float32) / 10
    votes[flipped] = np.nan  # as `prepare` withholds them
    weight, progress = position_weight({"variant": "paper"}), {"early": 0.1, "late": 0.9}
    found = weight_claims(early, late, weight, progress, annotations(votes, None, label, flipped))
    assert found["rows"] == N - 4
    seen = np.setdiff1d(np.arange(N), [0, 1, 2, 5])
    assert found["minority_share"] == pytest.approx((label[seen] >= 2).mean())
    weight_N = weight(*np.ascontiguousarray(late[seen].T), 0.9)
    assert found["late"]["mean_weight"] == pytest.approx(float(weight_N.mean()))
    assert found["late"]["flipped_auroc"] == pytest.approx(roc_auc_score(flipped[seen], -weight_N))
    assert found["early"]["weight_by_doubt"].keys() == {"1", "2", "3", "4", "5"}


@pytest.mark.parametrize("moment", ["early", "late"])
def test_the_order_of_the_samples_changes_nothing(moment: str) -> None:
    rng = np.random.default_rng(4)
    early, late, label = places(rng), places(rng), rng.integers(0, CLASSES, N)
    posterior = rng.dirichlet(np.ones(CLASSES), N).astype(np.float32)
    weight, progress = position_weight({"variant": "released"}), {"early": 0.0, "late": 0.5}
    order = rng.permutation(N)
    plain = weight_claims(early, late, weight, progress, annotations(None, posterior, label))
    mixed = annotations(None, posterior[order], label[order])
    other = weight_claims(early[order], late[order], weight, progress, mixed)
    assert other[moment]["weight_by_doubt"] == pytest.approx(plain[moment]["weight_by_doubt"])
    assert other[moment]["minority_of_top_tenth"] == pytest.approx(plain[moment]["minority_of_top_tenth"])
