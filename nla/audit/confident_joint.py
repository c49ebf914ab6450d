"""How many labels of each class are wrong: the confident joint of given and true labels.

    t_k    = mean of p_k over the rows with the label k        the confidence that is usual for the class
    C[i,j] = rows with the label i whose most probable class among those with p_k >= t_k is j
    J[i,j] = C[i,j] / sum_j C[i,j] * rows with the label i      calibrated: every row counts
    wrong labels of class i = sum of J[i,j] over j != i

Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 2021,
arXiv 1911.00068. Thresholds of their own spare classes in which a model is never sure, as rare ones are.

The intervals are those of a bootstrap over the rows, with the thresholds recomputed in each resample. A binomial
interval would take the thresholds for known, and the calibrated counts for counts. They contain the chance by which
rows are in the data set, not what the model has wrong.

Legend: N rows, C classes, R resamples; p_NC out-of-sample probabilities.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nla.audit.noise_rate import RESAMPLES, Floats, WrongLabels
from nla.evaluation.significance import PERCENTILES


def class_thresholds(p_NC: np.ndarray, label_N: np.ndarray, times_N: np.ndarray | None = None) -> Floats:
    """Thresholds t, [C]; infinite for a class that no row has as its label.

    Args:
        p_NC: probabilities.
        label_N: labels as given.
        times_N: how often each row counts; None: once.
    """
    classes = p_NC.shape[1]
    times_N = np.ones(len(label_N)) if times_N is None else times_N
    own_N = p_NC[np.arange(len(label_N)), label_N].astype(np.float64)
    rows_C = np.bincount(label_N, times_N, classes)
    total_C = np.bincount(label_N, times_N * own_N, classes)
    return np.where(rows_C > 0, total_C / np.maximum(rows_C, 1), np.inf)


def confident_class(p_NC: np.ndarray, threshold_C: Floats) -> NDArray[np.int64]:
    """The most probable class of those at or above their thresholds, [N]; -1 without any."""
    confident_NC = np.where(p_NC >= threshold_C, p_NC, -1.0)
    return np.where(confident_NC.max(axis=1) < 0, -1, confident_NC.argmax(axis=1))


def joint_counts(p_NC: np.ndarray, label_N: np.ndarray, times_N: np.ndarray | None = None) -> Floats:
    """Calibrated joint J[given, true], [C, C]; a row sums to the number of rows with that label.

    A label that no row is confident about is taken for right.
    """
    classes = p_NC.shape[1]
    times_N = np.ones(len(label_N)) if times_N is None else times_N
    true_N = confident_class(p_NC, class_thresholds(p_NC, label_N, times_N))
    sure_N = true_N >= 0
    cell_N = label_N[sure_N] * classes + true_N[sure_N]
    counts_CC = np.bincount(cell_N, times_N[sure_N], classes**2).reshape(classes, classes)
    counts_CC += np.diag(counts_CC.sum(axis=1) == 0)
    rows_C = np.bincount(label_N, times_N, classes)
    return np.asarray(counts_CC / counts_CC.sum(axis=1, keepdims=True) * rows_C[:, None])


def wrong_labels(p_NC: np.ndarray, label_N: np.ndarray, seed: int, resamples: int = RESAMPLES) -> WrongLabels:
    """Estimates the number of wrong labels of each class and of all, with 95 % bootstrap intervals."""
    rng, total = np.random.default_rng(seed), len(label_N)
    drawn = (np.bincount(rng.integers(total, size=total), minlength=total) for _ in range(resamples))
    resampled = np.stack([_wrong(joint_counts(p_NC, label_N, times_N)) for times_N in drawn])
    low, high = np.percentile(resampled, PERCENTILES, axis=0)
    return WrongLabels(_wrong(joint_counts(p_NC, label_N)), low, high)


def _wrong(joint_CC: Floats) -> Floats:
    wrong_C = joint_CC.sum(axis=1) - joint_CC.diagonal()
    return np.append(wrong_C, wrong_C.sum())
