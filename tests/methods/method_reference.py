"""Softmax and cross-entropy in NumPy, sample by sample, for the tests of methods."""

from __future__ import annotations

from typing import Any

import numpy as np


def double(tensor: Any) -> np.ndarray:
    """A tensor as a float64 array."""
    return tensor.detach().double().numpy()


def softmax(z_NC: np.ndarray) -> np.ndarray:
    e_NC = np.exp(z_NC - z_NC.max(1, keepdims=True))
    return e_NC / e_NC.sum(1, keepdims=True)


def cross_entropies(z_NC: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[N], against class indices or distributions."""
    losses = []
    for p_C, y in zip(softmax(z_NC), target, strict=True):
        q_C = np.eye(len(p_C))[y] if np.ndim(y) == 0 else y
        losses.append(-sum(q * np.log(p) for q, p in zip(q_C, p_C, strict=True)))
    return np.array(losses)
