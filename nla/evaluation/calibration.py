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
    bin_N = np.clip(np.searchsorted(edges, confidence_N, side="left") - 1, 0, bins - 1)
    count = np.bincount(bin_N, minlength=bins)
    filled = np.maximum(count, 1)
    return Reliability(
        edges,
        count,
        confidence=np.bincount(bin_N, confidence_N, minlength=bins) / filled,
        accuracy=np.bincount(bin_N, right_N, minlength=bins) / filled,
    )
