"""Agreement of predictions with the annotators' votes, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from nla.evaluation.metrics import agreement, spearman

GRADES = hnp.arrays(np.float64, st.tuples(st.integers(2, 40), st.just(2)), elements=st.integers(0, 6))


@pytest.fixture
def predictions() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    true_NC = rng.dirichlet(np.full(5, 0.5), 300)
    votes_NC = np.stack([rng.multinomial(10, row) for row in true_NC]) / 10
    return (0.7 * true_NC + 0.06).astype(np.float32), votes_NC.astype(np.float32)


@given(GRADES)
def test_spearman_is_the_correlation_of_mean_ranks(grades: np.ndarray) -> None:
    a, b = grades.T
    assume(len(set(a)) > 1 and len(set(b)) > 1)
    ranks = [[(values < v).sum() + (values <= v).sum() for v in values] for values in (a, b)]
    assert spearman(a, b) == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-12)


def test_nothing_correlates_with_a_constant() -> None:
    assert spearman(np.array([1.0, 1.0]), np.array([1.0, 2.0])) is None
    assert spearman(np.array([1.0]), np.array([2.0])) is None


def test_divergences_as_in_scipy(predictions: tuple[np.ndarray, np.ndarray]) -> None:
    p_NC, votes_NC = predictions
    measured = agreement(p_NC, votes_NC)
    kl = np.mean([stats.entropy(v, p) for v, p in zip(votes_NC.astype(float), p_NC.astype(float), strict=True)])
    assert measured["kl_divergence"] == pytest.approx(kl, abs=1e-5)
    surprise = np.mean([-np.sum(v * np.log(p)) for v, p in zip(votes_NC, p_NC, strict=True)])
    assert measured["cross_entropy"] == pytest.approx(surprise, rel=1e-5)
    predictive, voted = stats.entropy(p_NC, axis=1), stats.entropy(votes_NC, axis=1)
    assert measured["entropy_correlation"] == pytest.approx(stats.spearmanr(predictive, voted).statistic, abs=0.01)
    assert measured["entropy_correlation"] > 0.5


def test_the_votes_themselves_agree_best(predictions: tuple[np.ndarray, np.ndarray]) -> None:
    _, votes_NC = predictions
    measured = agreement(votes_NC, votes_NC)
    assert measured["kl_divergence"] == pytest.approx(0, abs=1e-6)
    assert measured["vote_share"] == measured["vote_share_possible"] == pytest.approx(votes_NC.max(1).mean())
    assert measured["entropy_correlation"] == pytest.approx(1)


def test_vote_share_is_that_of_the_predicted_class() -> None:
    votes_NC = np.array([[0.1, 0.9], [0.6, 0.4]])
    measured = agreement(np.array([[0.8, 0.2], [0.7, 0.3]]), votes_NC)
    assert measured["vote_share"] == pytest.approx((0.1 + 0.6) / 2)
    assert measured["vote_share_possible"] == pytest.approx((0.9 + 0.6) / 2)


def test_rows_without_votes_are_left_out(predictions: tuple[np.ndarray, np.ndarray]) -> None:
    p_NC, votes_NC = predictions
    some = votes_NC.copy()
    some[::3] = np.nan
    kept = ~np.isnan(some[:, 0])
    assert agreement(p_NC, some) == agreement(p_NC[kept], votes_NC[kept])
    assert agreement(p_NC, some)["rows"] == 200
    assert agreement(p_NC, np.full_like(votes_NC, np.nan)) == {}


def test_probabilities_of_zero_stay_finite() -> None:
    measured = agreement(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [0.5, 0.5]]))
    assert all(value is None or np.isfinite(value) for value in measured.values())


def test_single_precision_is_computed_in_double(predictions: tuple[np.ndarray, np.ndarray]) -> None:
    p_NC, votes_NC = predictions
    assert agreement(p_NC, votes_NC) == agreement(p_NC.astype(np.float64), votes_NC.astype(np.float64))


def test_its_figures_have_these_names(predictions: tuple[np.ndarray, np.ndarray]) -> None:
    correlations = {"entropy_correlation", "ambiguity_correlation"}
    shares = {"vote_share", "vote_share_possible"}
    assert {*agreement(*predictions)} == {"rows", "cross_entropy", "kl_divergence"} | correlations | shares
