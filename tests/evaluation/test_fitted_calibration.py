"""The calibration of a model: T by its stationarity, the choice among methods, what never changes, degenerate cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from nla.evaluation.calibration import reliability
from nla.evaluation.fitted_calibration import (
    LEAST_ROWS,
    METHODS,
    cross_fitted,
    fit_calibration,
    fit_temperature,
    fit_temperature_uniform,
    nll,
)
from nla.models.calibration import COLDEST, FLOOR, HOTTEST, MOST_UNIFORM, Calibration

temperatures = st.floats(COLDEST, HOTTEST)
uniforms = st.floats(0, MOST_UNIFORM)


def drawn(n: int, c: int, temperature: float, uniform: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """p_NC of a network that is sure by a factor `temperature` too much, and labels with a share of random ones."""
    rng = np.random.default_rng(seed)
    logits_NC = rng.normal(0, 2, (n, c))
    true_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(1, keepdims=True)
    label_N = (true_NC.cumsum(1) > rng.random((n, 1))).argmax(1)
    label_N = np.where(rng.random(n) < uniform, rng.integers(0, c, n), label_N)
    sharp_NC = np.exp(temperature * (logits_NC - logits_NC.max(1, keepdims=True)))
    return (sharp_NC / sharp_NC.sum(1, keepdims=True)).astype(np.float32), label_N


def best_temperature(p_NC: np.ndarray, label_N: np.ndarray) -> float:
    """Where the derivative of NLL by 1 / T is 0: the expected log p under p_T is the mean log p of the labels there."""
    log_NC = np.log(p_NC.astype(np.float64))

    def excess(beta: float) -> float:
        weight_NC = np.exp(beta * log_NC)
        weight_NC /= weight_NC.sum(1, keepdims=True)
        return float(((weight_NC * log_NC).sum(1) - log_NC[np.arange(len(log_NC)), label_N]).mean())

    return 1 / float(brentq(excess, 1 / HOTTEST, 1 / COLDEST, xtol=1e-12))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, 4.0])
def test_the_temperature_solves_the_equation_of_the_minimum(temperature: float) -> None:
    p_NC, label_N = drawn(2000, 5, temperature)
    found = fit_temperature(p_NC, label_N).temperature
    assert found == pytest.approx(best_temperature(p_NC, label_N), rel=1e-5)
    assert found == pytest.approx(temperature, rel=0.12), "that of the network, within 2000 images' error"


def test_both_parameters_are_found() -> None:
    p_NC, label_N = drawn(20_000, 5, 2.0, uniform=0.2)
    found = fit_temperature_uniform(p_NC, label_N)
    assert found.temperature == pytest.approx(2, rel=0.1)
    assert found.uniform == pytest.approx(0.2, abs=0.03)
    near = nll(p_NC, label_N, found).mean()
    for temperature in found.temperature * np.array([0.95, 1, 1.05]):
        for uniform in found.uniform + np.array([-0.02, 0, 0.02]):
            assert nll(p_NC, label_N, Calibration(temperature, uniform)).mean() >= near - 1e-9


@pytest.mark.parametrize(
    ("temperature", "uniform", "method"),
    [(1.0, 0.0, "none"), (2.0, 0.0, "temperature"), (2.0, 0.2, "temperature_uniform")],
)
def test_the_simplest_method_that_is_not_worse_is_chosen(temperature: float, uniform: float, method: str) -> None:
    p_NC, label_N = drawn(4000, 5, temperature, uniform)
    found = fit_calibration(p_NC, label_N)
    assert found.method == method
    best = min(found.nll.values())
    first = next(name for name in METHODS if found.nll[name] - best <= found.standard_error[name])
    assert first == method and found.rows == 4000
    fitted = METHODS[method](p_NC, label_N)
    assert (found.temperature, found.uniform) == (fitted.temperature, fitted.uniform)
    assert fit_calibration(p_NC, label_N) == found, "the folds are drawn from a seed"


def test_cross_fitting_uses_no_label_of_the_fold_it_measures() -> None:
    """Labels of one image change only its own NLL within the fold, and the fits of the other folds."""
    p_NC, label_N = drawn(500, 4, 2.0)
    before_MN, changed_N = cross_fitted(p_NC, label_N, np.arange(len(label_N))), label_N.copy()
    changed_N[0] = (label_N[0] + 1) % 4
    same_N = (cross_fitted(p_NC, changed_N, np.arange(len(label_N))) == before_MN)[1]
    assert same_N.sum() == 99 and not same_N[0], "of its 100 images, 99 keep parameters and label"


@given(temperatures, uniforms, st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_probabilities_stay_probabilities_in_the_same_order(t: float, u: float, seed: int, c: int) -> None:
    p_NC = np.random.default_rng(seed).dirichlet(np.full(c, 0.3), 20)
    after_NC = Calibration(t, u).of_array(p_NC)
    np.testing.assert_allclose(after_NC.sum(1), 1, atol=1e-12)
    assert ((after_NC >= 0) & (after_NC <= 1)).all()
    order_NC = np.argsort(p_NC, axis=1)
    assert (np.diff(np.take_along_axis(after_NC, order_NC, 1), axis=1) >= 0).all()
    rows_N = np.arange(20)
    assert (after_NC.max(1) == after_NC[rows_N, p_NC.argmax(1)]).all(), "the label has the largest probability still"


@given(temperatures, uniforms, st.integers(0, 2**32 - 1))
def test_arrays_and_tensors_agree(t: float, u: float, seed: int) -> None:
    p_NC = np.random.default_rng(seed).dirichlet(np.full(7, 0.2), 20).astype(np.float32)
    p_NC[0] = [1, 0, 0, 0, 0, 0, 0]
    calibration = Calibration(t, u)
    tensor_NC = calibration.of_tensor(torch.from_numpy(p_NC)).numpy()
    np.testing.assert_allclose(tensor_NC, calibration.of_array(p_NC), atol=1e-5)
    assert tensor_NC.dtype == np.float32


def test_the_formula() -> None:
    p_NC = np.array([[0.64, 0.32, 0.04]])
    roots = np.sqrt(p_NC)
    np.testing.assert_allclose(Calibration(2.0, 0.1).of_array(p_NC), 0.9 * roots / roots.sum() + 0.1 / 3)
    assert Calibration().of_array(p_NC) is p_NC, "without calibration not a bit changes"


def test_it_calibrates() -> None:
    """On other images than it was fitted on."""
    fitted = fit_calibration(*drawn(4000, 5, 2.0, seed=1))
    p_NC, label_N = drawn(20_000, 5, 2.0, seed=2)
    after_NC = Calibration(fitted.temperature, fitted.uniform).of_array(p_NC)
    assert reliability(p_NC, label_N, 15).ece > 0.1
    assert reliability(after_NC, label_N, 15).ece < 0.02


def test_too_few_images_leave_it_as_it_is() -> None:
    p_NC, label_N = drawn(LEAST_ROWS - 1, 4, 5.0)
    found = fit_calibration(p_NC, label_N)
    assert (found.method, found.temperature, found.uniform, found.nll) == ("none", 1, 0, {})


def test_predictions_that_are_all_right_leave_it_as_it_is() -> None:
    """The NLL falls to the end of the range of temperatures: nothing says how sure is too sure."""
    p_NC, _ = drawn(300, 4, 1.0)
    found = fit_calibration(p_NC, p_NC.argmax(1))
    assert found.nll["temperature"] < found.nll["none"]
    assert (found.method, found.temperature) == ("none", 1)


def test_predictions_that_say_nothing_leave_it_as_it_is() -> None:
    found = fit_calibration(np.full((300, 4), 0.25, np.float32), np.arange(300) % 4)
    assert (found.method, found.temperature) == ("none", 1)


def test_a_single_class_in_validation_is_fitted_like_any_other() -> None:
    p_NC, label_N = drawn(6000, 3, 2.0)
    one_NC, zeros_N = p_NC[label_N == 0], label_N[label_N == 0]
    found = fit_calibration(one_NC, zeros_N)
    assert found.temperature == pytest.approx(best_temperature(one_NC, zeros_N), rel=1e-4) or found.uniform > 0


def test_probabilities_of_zero_have_a_finite_nll() -> None:
    p_NC, label_N = drawn(300, 4, 1.0)
    p_NC[:30] = [1, 0, 0, 0]
    label_N[:30] = 1
    found = fit_calibration(p_NC, label_N)
    assert np.isfinite(list(found.nll.values())).all()
    assert found.temperature > 1 or found.uniform > 0, "wrong and sure: less sure now"
    assert nll(p_NC, label_N, Calibration())[0] == pytest.approx(-np.log(FLOOR))
