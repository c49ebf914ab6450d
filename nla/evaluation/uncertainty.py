"""Uncertainty of predictions, and how much they doubt the given label.

Legend: N samples, C classes; p_NC probabilities.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nla.models.calibration import FLOOR  # where a float32 softmax gives 0, the loss is 87 nats instead of infinite

Floats = NDArray[np.float64]


def log(p: np.ndarray) -> Floats:
    """Natural logarithm, finite at 0."""
    return np.log(np.maximum(np.asarray(p, np.float64), FLOOR))


def entropy(p_NC: np.ndarray) -> Floats:
    """Shannon entropy [N] in nats, from 0 to log C."""
    return np.asarray(-(p_NC * log(p_NC)).sum(axis=1))


def ambiguity(p_NC: np.ndarray) -> Floats:
    """1 - (largest - second largest probability) [N]: 0 is certain, 1 a tie. With a single class it is 0."""
    if p_NC.shape[1] == 1:
        return np.zeros(len(p_NC))
    two_N2 = np.sort(np.asarray(p_NC, np.float64), axis=1)[:, -2:]
    return 1 - (two_N2[:, 1] - two_N2[:, 0])


def label_probability(p_NC: np.ndarray, label_N: np.ndarray) -> np.ndarray:
    """Probability [N] of the given label."""
    p_N: np.ndarray = p_NC[np.arange(len(p_NC)), label_N]
    return p_N


def most_doubted(p_NC: np.ndarray, label_N: np.ndarray) -> NDArray[np.int64]:
    """Indices of all samples, ordered by the probability of their given label, lowest first; ties in their order."""
    return np.argsort(label_probability(p_NC, label_N), kind="stable")


def most_ambiguous(p_NC: np.ndarray, count: int) -> NDArray[np.int64]:
    """Indices of the `count` samples whose two largest probabilities are closest, closest first."""
    return np.argsort(-ambiguity(p_NC), kind="stable")[:count]


def most_wrong(p_NC: np.ndarray, label_N: np.ndarray, count: int) -> NDArray[np.int64]:
    """Indices of at most `count` wrongly predicted samples, the most confident first."""
    wrong = np.flatnonzero(p_NC.argmax(axis=1) != label_N)
    return wrong[np.argsort(-p_NC[wrong].max(axis=1), kind="stable")[:count]]
