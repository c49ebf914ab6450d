"""Does a confidence of 80 % mean 80 % right? Equal-width bins after Guo et al. 2017, "On calibration of modern
neural networks".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Predictions by confidence; bin b holds confidences in (edges[b], edges[b + 1]], the first also 0."""

    edges: Floats
    """[B + 1] from 0 to 1."""
    count: NDArray[np.int64]
    """[B] samples."""
    confidence: Floats
    """[B] mean largest probability; 0 in an empty bin."""
    accuracy: Floats
    """[B] share that is right; 0 in an empty bin."""

    @property
    def ece(self) -> float:
        """Expected calibration error, 0 to 1: mean |accuracy - confidence| over the bins, weighted by their samples."""
        return float(np.abs(self.accuracy - self.confidence) @ self.count / self.count.sum())

    @property
    def overconfidence(self) -> float:
        """Mean confidence - accuracy over all samples, -1 to 1."""
        return float((self.confidence - self.accuracy) @ self.count / self.count.sum())


def reliability(p_NC: np.ndarray, label_N: np.ndarray, bins: int) -> Reliability:
    """Bins of the predictions (argmax of p_NC, first on ties) by their probability; N is at least 1."""
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
    """[N, bins] right (1 or 0) - confidence of each sample in the column of its bin, 0 elsewhere.

    The absolute means of the columns sum to the expected calibration error, of these samples as of any part of them.
    """
    confidence_N = np.asarray(p_NC.max(axis=1), np.float64)
    gap_NB = np.zeros((len(label_N), bins))
    bin_N = _bin(confidence_N, np.linspace(0, 1, bins + 1))
    gap_NB[np.arange(len(label_N)), bin_N] = (p_NC.argmax(axis=1) == label_N) - confidence_N
    return gap_NB


def _bin(confidence_N: Floats, edges: Floats) -> NDArray[np.int64]:
    return np.clip(np.searchsorted(edges, confidence_N, side="left") - 1, 0, len(edges) - 2)
