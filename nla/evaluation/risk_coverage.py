"""Selective classification: the accuracy of what is kept if the least confident images are refused.

After El-Yaniv and Wiener 2010, "On the foundations of noise-free selective classification", and Geifman et al. 2019,
"Bias-reduced uncertainty estimation for deep neural classifiers", for the area under the curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nla.evaluation.uncertainty import label_probability
from nla.io import write_rows

Floats = NDArray[np.float64]

POINTS = 100
"""Rows of the table for DVC's plot, at most: each percent of coverage."""


@dataclass(frozen=True)
class RiskCoverage:
    """Results of keeping all images of at least some confidence, for each confidence that occurs, [K]."""

    coverage: Floats
    """Share of the images that is kept, ascending to 1."""
    accuracy: Floats
    """Of those kept."""
    least: Floats
    """Least confidence of those kept: the value for a threshold."""
    aurc: float
    """Area under risk, 1 - accuracy, against coverage, in [0, 1]: the mean over the images, most confident first, of
    the risk of those up to each; expected over the orders of images that are equally confident."""


def risk_coverage(confidence_N: np.ndarray, right_N: np.ndarray) -> RiskCoverage:
    """The curve; N must be at least 1. Equally confident images are kept or refused together.

    Args:
        confidence_N: any score, higher where the prediction is surer.
        right_N: whether the prediction is the label.
    """
    order_N = np.argsort(-np.asarray(confidence_N, np.float64), kind="stable")
    sorted_N, total = np.asarray(confidence_N, np.float64)[order_N], len(order_N)
    right_N = np.asarray(right_N, np.float64)[order_N]
    last_K = np.append(np.flatnonzero(np.diff(sorted_N)), total - 1)  # of each confidence
    kept_K, right_K = last_K + 1, right_N.cumsum()[last_K]
    # Of equally confident images, a random one is right as often as their mean.
    rank_N, expected_N = np.arange(1, total + 1), np.interp(np.arange(1, total + 1), [0, *kept_K], [0, *right_K])
    return RiskCoverage(
        coverage=kept_K / total,
        accuracy=right_K / kept_K,
        least=sorted_N[last_K],
        aurc=float((1 - expected_N / rank_N).mean()),
    )


def selective(p_NC: np.ndarray, calibrated_NC: np.ndarray, label_N: np.ndarray) -> RiskCoverage:
    """The curve of the predictions by p_NC, probabilities [N, C], with their confidences in calibrated_NC."""
    class_N = p_NC.argmax(axis=1)
    return risk_coverage(label_probability(calibrated_NC, class_N), class_N == label_N)


def write_risk_coverage(path: Path, curve: RiskCoverage) -> None:
    """Writes coverage, accuracy and least confidence at about each percent of coverage."""
    wanted = np.searchsorted(curve.coverage, np.arange(1, POINTS + 1) / POINTS - 1e-9)
    rows = ((curve.coverage[k], curve.accuracy[k], curve.least[k]) for k in np.unique(wanted))
    names = ("coverage", "accuracy", "confidence")
    write_rows(path, (dict(zip(names, map(float, row), strict=True)) for row in rows))
