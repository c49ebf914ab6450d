"""Accuracy, recall, precision and F1 from a confusion matrix.

They accept leading dimensions, so that a thousand bootstrap resamples are one call, which scikit-learn's functions of
labels do not offer; and the matrices of several workers can be added before anything is divided. Proportions are in
[0, 1].

Training validates with them, so that this module imports nothing else of the evaluation.

Legend: N samples, C classes; counts_CC[actual, predicted] a confusion matrix.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nla.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def confusion(label_N: ArrayLike, predicted_N: ArrayLike, classes: int) -> Ints:
    """Counts [C, C] by (actual, predicted).

    Like scikit-learn's `confusion_matrix`, whose import takes about 2 s, also in each training process.

    Raises:
        DataError: a label or prediction is outside of 0..C-1.
    """
    label, predicted = np.asarray(label_N, np.int64), np.asarray(predicted_N, np.int64)
    if label.shape != predicted.shape or label.ndim != 1:
        raise ValueError(
            f"labels {label.shape} and predictions {predicted.shape} must be two vectors of the same length"
        )
    both = np.concatenate([label, predicted])
    if both.size and not 0 <= both.min() <= both.max() < classes:
        raise DataError(
            f"labels run from {both.min()} to {both.max()}, but {classes} classes allow 0 to {classes - 1}. "
            "Run `dvc repro prepare`."
        )
    return np.bincount(label * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def support(counts_CC: np.ndarray) -> np.ndarray:
    """Samples per class [..., C]."""
    return np.asarray(counts_CC.sum(axis=-1))


def accuracy(counts_CC: np.ndarray) -> Floats:
    """Proportion of correct samples [...]."""
    return _ratio(_right(counts_CC).sum(axis=-1), counts_CC.sum(axis=(-2, -1)))


def recall(counts_CC: np.ndarray) -> Floats:
    """Proportion of each class's samples that are correct [..., C]; 0 for a class without samples."""
    return _ratio(_right(counts_CC), support(counts_CC))


def precision(counts_CC: np.ndarray) -> Floats:
    """Proportion of each class's predictions that are correct [..., C]; 0 for a class that is never predicted."""
    return _ratio(_right(counts_CC), counts_CC.sum(axis=-2))


def f1(counts_CC: np.ndarray) -> Floats:
    """Harmonic mean of recall and precision [..., C]; 0 for a class without samples and predictions."""
    return _ratio(2 * _right(counts_CC), support(counts_CC) + counts_CC.sum(axis=-2))


def mean_accuracy(counts_CC: np.ndarray) -> Floats:
    """Class-balanced accuracy [...]: mean recall of the classes that have samples."""
    return _mean_of(support(counts_CC) > 0, recall(counts_CC))


def macro_f1(counts_CC: np.ndarray) -> Floats:
    """Mean F1 [...] of the classes that have samples or are predicted, as in scikit-learn.

    A class that is only predicted counts with an F1 of 0: its predictions are all wrong. Without it, a model that names
    classes which a data set lacks would lose only recall, not precision.
    """
    seen_C = support(counts_CC) + counts_CC.sum(axis=-2) > 0
    return _mean_of(seen_C, f1(counts_CC))


def _right(counts_CC: np.ndarray) -> np.ndarray:
    return np.diagonal(counts_CC, axis1=-2, axis2=-1)


def _mean_of(chosen_C: np.ndarray, value_C: Floats) -> Floats:
    return _ratio((value_C * chosen_C).sum(axis=-1), chosen_C.sum(axis=-1))


def _ratio(part: np.ndarray, whole: np.ndarray) -> Floats:
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    ratio: Floats = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    return ratio
