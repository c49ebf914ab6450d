"""Fits a model's calibration on validation, and chooses among methods by cross-fitting there. Test is not involved.

Three methods, each with the one before as a special case: `none`, `temperature`, and `temperature_uniform`, which also
mixes with the uniform distribution, as labels with random errors call for. Vector scaling and biases of classes are not
among them: they can change the predicted class, and a confidence must be that of the label that is shown.

The rule: each fold of validation is predicted with parameters fitted on the others. The method with the lowest mean NLL
is the best; the first of the list that is worse by at most one standard error of the paired difference is chosen (the
one-standard-error rule, Breiman et al. 1984), and fitted again on all rows.

Legend: N validation images, C classes; p_NC probabilities averaged over the views, before calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nla.evaluation.uncertainty import label_probability, log
from nla.models.calibration import COLDEST, HOTTEST, MOST_UNIFORM, Calibration

Floats = NDArray[np.float64]

FOLDS = 5
SEED = 0  # of the folds
LEAST_ROWS = 10 * FOLDS  # fewer say next to nothing: the standard error of an accuracy of 90 % is 4 points
LEAST_GROUPS = 2 * FOLDS  # with fewer, a fold could be a single video
NEAR_BOUND = 1.01  # factor by which an estimate at the end of its range may miss it


@dataclass(frozen=True)
class FittedCalibration:
    """The section `calibration` of a card: the parameters, and how they were chosen."""

    method: str
    """none, temperature or temperature_uniform."""
    temperature: float
    uniform: float
    rows: int
    """Number of validation images, or frames."""
    nll: dict[str, float]
    """Cross-fitted NLL of each method, in nats; {} if there were too few rows."""
    standard_error: dict[str, float]
    """Of its difference to the best method's, over images or videos."""


def fit_calibration(p_NC: np.ndarray, label_N: np.ndarray, group_N: np.ndarray | None = None) -> FittedCalibration:
    """Chooses a method and fits it to the labels as given, wrong ones included.

    Images with the same number in `group_N`, as frames of a video, are alike: they are in the same fold, and standard
    errors are over the groups.

    `none` is chosen with fewer than LEAST_ROWS images or LEAST_GROUPS groups, and if the temperature is at an end of
    its range, as it is where all predictions are right: nothing then says how sure is too sure. A validation split of
    a single class is fitted like any other. Probabilities of 0 count as the smallest normal float32 number, as in all
    NLLs.
    """
    rows = len(label_N)
    groups, group_N = (rows, np.arange(rows)) if group_N is None else _numbered(group_N)
    if rows < LEAST_ROWS or groups < LEAST_GROUPS:
        return FittedCalibration("none", 1.0, 0.0, rows, {}, {})
    nll_MN = cross_fitted(p_NC, label_N, group_N)
    best_N = nll_MN[int(np.argmin(nll_MN.mean(1)))]
    worse_M = (nll_MN - best_N).mean(1)
    error_M = np.array([_standard_error(each_N - best_N, group_N) for each_N in nll_MN])
    method = list(METHODS)[int(np.argmax(worse_M <= error_M))]  # the first one that is not worse
    chosen = METHODS[method](p_NC, label_N)
    if not COLDEST * NEAR_BOUND < chosen.temperature < HOTTEST / NEAR_BOUND:
        method, chosen = "none", Calibration()
    mean_M = nll_MN.mean(1).tolist()
    return FittedCalibration(
        method,
        chosen.temperature,
        chosen.uniform,
        rows,
        dict(zip(METHODS, mean_M, strict=True)),
        dict(zip(METHODS, error_M.tolist(), strict=True)),
    )


def calibration_line(fitted: Mapping[str, Any]) -> str:
    """One line for the console on the calibration of the selected epoch."""
    if not fitted["nll"]:
        return "probabilities are not calibrated: validation is too small"
    if fitted["method"] == "none":
        return "probabilities are not calibrated: on validation nothing is better than to leave them as they are"
    before, after = fitted["nll"]["none"], fitted["nll"][fitted["method"]]
    uniform = f", uniform share {fitted['uniform']:.3f}" if fitted["uniform"] else ""
    return (
        f"calibrated on validation: temperature {fitted['temperature']:.3f}{uniform}; "
        f"NLL {before:.4f} before, {after:.4f} after, cross-fitted"
    )


def _numbered(group_N: np.ndarray) -> tuple[int, np.ndarray]:
    """Number of groups, and the group of each image, counted from 0."""
    names, number_N = np.unique(group_N, return_inverse=True)
    return len(names), number_N


def _standard_error(difference_N: Floats, group_N: np.ndarray) -> float:
    """Of the mean over images, by the sums of the groups' deviations from it; for groups of one the usual one."""
    deviation_G = np.bincount(group_N, difference_N - difference_N.mean())
    groups = len(deviation_G)
    return float((groups / (groups - 1) * (deviation_G**2).sum()) ** 0.5 / len(group_N))


def cross_fitted(p_NC: np.ndarray, label_N: np.ndarray, group_N: np.ndarray) -> Floats:
    """NLL of each method [M] and image [N], each image with parameters that were fitted without the fold of its group.

    Groups are counted from 0.
    """
    fold_N = (np.random.default_rng(SEED).permutation(int(group_N.max()) + 1) % FOLDS)[group_N]
    nll_MN = np.empty((len(METHODS), len(label_N)))
    for fold in range(FOLDS):
        held_N = fold_N == fold
        for row_N, fit in zip(nll_MN, METHODS.values(), strict=True):
            row_N[held_N] = nll(p_NC[held_N], label_N[held_N], fit(p_NC[~held_N], label_N[~held_N]))
    return nll_MN


def nll(p_NC: np.ndarray, label_N: np.ndarray, calibration: Calibration) -> Floats:
    """-log of the calibrated probability of each label, in nats, [N]."""
    return -log(label_probability(calibration.of_array(np.asarray(p_NC, np.float64)), label_N))


def fit_temperature(p_NC: np.ndarray, label_N: np.ndarray) -> Calibration:
    """The temperature with the lowest mean NLL. NLL is convex in 1 / T, so that it has no other minimum in log T."""
    from scipy.optimize import minimize_scalar  # takes a second to import

    def loss(log_temperature: float) -> float:
        return float(nll(p_NC, label_N, _bounded(log_temperature)).mean())

    found = minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded", options={"xatol": 1e-7})
    return _bounded(float(found.x))


def fit_temperature_uniform(p_NC: np.ndarray, label_N: np.ndarray) -> Calibration:
    """Temperature and uniform share with the lowest mean NLL near the best temperature alone, by L-BFGS-B."""
    from scipy.optimize import minimize

    def loss(parameters: Floats) -> float:
        return float(nll(p_NC, label_N, _bounded(*parameters.tolist())).mean())

    start = [np.log(fit_temperature(p_NC, label_N).temperature), 0.01]  # not 0, where a gradient may vanish
    found = minimize(loss, start, method="L-BFGS-B", bounds=[_LOG_RANGE, (0, MOST_UNIFORM)])
    return _bounded(*found.x.tolist())


_LOG_RANGE = (float(np.log(COLDEST)), float(np.log(HOTTEST)))


def _bounded(log_temperature: float, uniform: float = 0.0) -> Calibration:
    """The calibration; exp of a log's end may leave the range by rounding."""
    return Calibration(min(max(float(np.exp(log_temperature)), COLDEST), HOTTEST), uniform)


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], Calibration]] = {
    "none": lambda p_NC, label_N: Calibration(),
    "temperature": fit_temperature,
    "temperature_uniform": fit_temperature_uniform,
}
"""From the simplest on."""
