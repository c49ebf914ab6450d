"""Calibration of confidences, in equal-width bins after Guo et al. 2017, "On calibration of modern neural networks"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Predictions binned by confidence; bin b holds confidences in (edges[b], edges[b + 1]], the first bin also 0."""

    edges: Floats
    """Bin edges from 0 to 1, [B + 1]."""
    count: NDArray[np.int64]
    """Number of samples, [B]."""
    confidence: Floats
    """Mean largest probability, [B]; 0 in an empty bin."""
    accuracy: Floats
    """Proportion of correct predictions, [B]; 0 in an empty bin."""

    @property
    def ece(self) -> float:
        """Expected calibration error, in [0, 1]: mean |accuracy - confidence| over the bins, weighted by count."""
        return float(np.abs(self.accuracy - self.confidence) @ self.count / self.count.sum())

    @property
    def overconfidence(self) -> float:
        """Mean confidence - accuracy over all samples, in [-1, 1]."""
        return float((self.confidence - self.accuracy) @ self.count / self.count.sum())


def reliability(p_NC: np.ndarray, label_N: np.ndarray, bins: int) -> Reliability:
    """Bins the predictions (argmax of p_NC, the first on ties) by their probability; N must be at least 1."""
    confidence_N = np.asarray(p_NC.max(axis=1), np.float64)
    right_N = p_NC.argmax(axis=1) == label_N
    edges = np.linspace(0, 1, bins + 1)
    bin_N = _bin(confidence_N, edges)
    count = np.bincount(bin_N, minlength=bins)
    filled = np.maximum(count, 1)
    return Reliability(
        edges,
        count,
        confidence=np.bincount(bin_N, confidence_N, minlength=bins) / filled,
        accuracy=np.bincount(bin_N, right_N, minlength=bins) / filled,
    )


def gaps(p_NC: np.ndarray, label_N: np.ndarray, bins: int) -> Floats:
    """Correctness (1 or 0) - confidence of each sample in the column of its bin, 0 elsewhere; [N, bins].

    The absolute column means sum to the expected calibration error, of all samples as of any resample.
    """
    confidence_N = np.asarray(p_NC.max(axis=1), np.float64)
    gap_NB = np.zeros((len(label_N), bins))
    bin_N = _bin(confidence_N, np.linspace(0, 1, bins + 1))
    gap_NB[np.arange(len(label_N)), bin_N] = (p_NC.argmax(axis=1) == label_N) - confidence_N
    return gap_NB


def _bin(confidence_N: Floats, edges: Floats) -> NDArray[np.int64]:
    return np.clip(np.searchsorted(edges, confidence_N, side="left") - 1, 0, len(edges) - 2)
