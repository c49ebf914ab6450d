"""The rate of noise against labels of which it is known, and posteriors against Bayes' rule by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.audit.noise_rate import fit_noise, true_class, without_noise


def noisy(rate: float, rows: int = 3000, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of noisy labels by a model that knows the image, labels as given, and true classes."""
    rng = np.random.default_rng(seed)
    r_NC = rng.dirichlet(np.full(classes, 0.15), rows)
    true_N = np.array([rng.choice(classes, p=r) for r in r_NC])
    other_N = (true_N + rng.integers(1, classes, rows)) % classes
    label_N = np.where(rng.random(rows) < rate, other_N, true_N)
    return r_NC * (1 - rate) + (1 - r_NC) * rate / (classes - 1), label_N, true_N


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.5])
def test_the_rate_and_the_number_of_wrong_labels_are_found(rate: float) -> None:
    p_NC, label_N, true_N = noisy(rate)
    fit = fit_noise(p_NC, label_N)
    assert fit.rate == pytest.approx(rate, abs=0.03)
    found = fit.wrong_labels(seed=0, resamples=100)
    wrong = [int(((label_N == c) & (true_N != c)).sum()) for c in range(4)]
    np.testing.assert_allclose(found.estimate, [*wrong, sum(wrong)], rtol=0.2, atol=30)
    assert (found.low <= found.estimate + 1e-9).all() and (found.estimate <= found.high + 1e-9).all()


def test_labels_of_another_split_have_a_rate_of_their_own() -> None:
    """Clean labels, by a model that learnt noisy ones."""
    p_NC, _, true_N = noisy(0.3)
    assert fit_noise(p_NC, true_N, learnt_rate=0.3).rate == pytest.approx(0, abs=0.02)
    _, label_N, _ = noisy(0.3)
    assert fit_noise(p_NC, label_N, learnt_rate=0.3).rate == pytest.approx(0.3, abs=0.03)


def test_the_posterior_is_bayes_rule() -> None:
    q_NC = true_class(np.array([[0.5, 0.3, 0.2]]), np.array([1]), 0.4)
    joint = [0.5 * 0.2, 0.3 * 0.6, 0.2 * 0.2]
    np.testing.assert_allclose(q_NC, [[each / sum(joint) for each in joint]])


@given(seed=st.integers(0, 50), rate=st.floats(0, 0.6))
def test_noise_is_taken_out_of_probabilities(seed: int, rate: float) -> None:
    r_NC = np.random.default_rng(seed).dirichlet(np.ones(5), 6)
    p_NC = r_NC * (1 - rate) + (1 - r_NC) * rate / 4
    found_NC = without_noise(p_NC, rate)
    np.testing.assert_allclose(found_NC.sum(axis=1), 1)
    np.testing.assert_allclose(found_NC, r_NC, atol=0.02)


@given(seed=st.integers(0, 20))
def test_the_likelihood_and_the_posterior_are_those_of_single_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p_NC, label_N = rng.dirichlet(np.ones(3), 5), rng.integers(0, 3, 5)
    fit = fit_noise(p_NC, label_N)
    for i in (0, 20, 60):
        rate = fit.rates_R[i]
        for n, label in enumerate(label_N.tolist()):
            left = [max(p - rate / 2, 0.01 * p) for p in p_NC[n].tolist()]
            r = [each / sum(left) for each in left]
            given_image = sum(r[k] * (1 - rate if k == label else rate / 2) for k in range(3))
            assert fit.gain_RN[i, n] == pytest.approx(math.log(given_image / p_NC[n, label]), abs=1e-5)
            assert fit.wrong_RN[i, n] == pytest.approx(1 - r[label] * (1 - rate) / given_image, abs=1e-5)
    q_NC = true_class(without_noise(p_NC, fit.rate), label_N, fit.rate)
    wrong_N = fit.wrong_RN[fit.rates_R.tolist().index(fit.rate)]
    np.testing.assert_allclose(1 - q_NC[range(5), label_N], wrong_N, atol=1e-5)


def test_probabilities_below_the_noise_keep_their_order() -> None:
    p_NC = np.array([[0.97, 0.02, 0.01], [0.96, 0.01, 0.03]])
    r_NC = without_noise(p_NC, 0.3)
    assert r_NC[0, 1] > r_NC[0, 2] > 0 and r_NC[1, 2] > r_NC[1, 1] > 0


def test_the_seed_decides_the_interval() -> None:
    p_NC, label_N, _ = noisy(0.3, rows=100)
    fit = fit_noise(p_NC, label_N)
    first, again, other = (fit.wrong_labels(seed, 20) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.low, again.low)
    assert (first.low != other.low).any()
