"""Scores of a label, from probabilities by models that were not trained on it. All functions are pure.

    p       mean probabilities of the late epochs, over the image and its mirror image
    y       the label as given;  T[k, y] = P(label y | true class k), from the confident joint
    r       = argmax sum_y p_y log sum_k r_k T[k, y]      the probabilities p without the label noise
    q_k     = r_k T[k, y] / sum_j r_j T[j, y]             P(true class k | image, label)
    score   = 1 - q_y                                     P(the label is wrong | image, label)

The models learnt noisy labels, so p is the distribution of labels, not of classes; r is the maximum of its likelihood,
by expectation-maximisation (Richardson 1972, Lucy 1974). The score combines r with what the joint knows of each pair of
classes: a label is more doubtful if labels of the probable class are often confused with it.

The other scores need no T:

    self-confidence       p_y                             Northcutt et al., arXiv 1911.00068
    margin                p_y - max_(k != y) p_k          the same
    area under margin     mean over epochs of z_y - max_(k != y) z_k, z logits     Pleiss et al., arXiv 2001.10528,
                          there of training rows
    running confidence    running mean of p_y over epochs, as in nla.methods.plus
    NAW's weight          at (p_y, max_(k != y) p_k)      arXiv 2502.09993, variant `paper`
    ambiguity             entropy of r / log C

Legend: E epochs, N rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nla.audit.confident_joint import Floats, joint_counts, label_given_truth
from nla.audit.table import VERDICTS
from nla.evaluation.uncertainty import entropy, label_probability, log
from nla.evaluation.weight import position_weight

BETA = 0.7
"""Decay of the running mean: `plus` has the same."""
ITERATIONS = 50
"""Of expectation-maximisation: with up to 60 % of random labels, probabilities come back within 0.02."""
MAJORITY = 0.5
"""A class with more than this share has a majority, as of the votes in FERPlus (Barsoum et al., arXiv 1608.01041)."""


@dataclass(frozen=True)
class Scores:
    """Scores of N labels; the fields are columns of the table, which says their ranges."""

    score: Floats
    self_confidence: Floats
    margin: Floats
    area_under_margin: Floats
    running_self_confidence: Floats
    naw_weight: Floats
    ambiguity: Floats
    verdict: NDArray[np.int64]
    """Index in VERDICTS."""
    suggested: NDArray[np.int64]
    """The most probable class given image and label."""
    r_NC: Floats
    """Probabilities without label noise."""


def late_epochs(epochs: int) -> int:
    """Number of the last epochs whose probabilities are averaged: about a third, and even, as views alternate."""
    return max(2, 2 * round(epochs / 6))


def late_probabilities(p_ENC: np.ndarray) -> np.ndarray:
    """Mean probabilities of the late epochs, [N, C] of the same type."""
    return np.asarray(p_ENC[-late_epochs(len(p_ENC)) :].mean(axis=0, dtype=p_ENC.dtype))


def score_labels(p_ENC: np.ndarray, label_N: np.ndarray, clean_CC: Floats) -> Scores:
    """All scores of the labels of one split.

    Args:
        p_ENC: probabilities after each epoch, at least 2.
        label_N: labels as given.
        clean_CC: P(label | true class), [true, given], of the labels that the models learnt.
    """
    p_NC = late_probabilities(p_ENC)
    own_N, nearest_N = label_probability(p_NC, label_N), nearest_other(p_NC, label_N)
    r_NC = without_noise(p_NC, clean_CC)
    q_NC = given_label(r_NC, label_N, label_given_truth(joint_counts(p_NC, label_N)))
    suggested_N = q_NC.argmax(axis=1)
    return Scores(
        score=np.clip(1 - label_probability(q_NC, label_N), 0, 1),
        self_confidence=own_N,
        margin=own_N - nearest_N,
        area_under_margin=area_under_margin(p_ENC, label_N),
        running_self_confidence=running_self_confidence(p_ENC, label_N),
        naw_weight=position_weight({})(own_N, nearest_N, 1.0),
        ambiguity=np.clip(entropy(r_NC) / np.log(r_NC.shape[1]), 0, 1),
        verdict=verdicts(r_NC, suggested_N, label_N),
        suggested=suggested_N,
        r_NC=r_NC,
    )


def nearest_other(p_NC: np.ndarray, label_N: np.ndarray) -> np.ndarray:
    """Probability [N] of the most probable class other than the label."""
    others_NC = p_NC.copy()
    others_NC[np.arange(len(p_NC)), label_N] = -np.inf
    nearest_N: np.ndarray = others_NC.max(axis=1)
    return nearest_N


def area_under_margin(p_ENC: np.ndarray, label_N: np.ndarray) -> Floats:
    """Mean over epochs of the margin of the logits, [N]: a difference of logits is one of log-probabilities."""
    margins = [log(label_probability(p_NC, label_N)) - log(nearest_other(p_NC, label_N)) for p_NC in p_ENC]
    return np.asarray(np.mean(margins, axis=0))


def running_self_confidence(p_ENC: np.ndarray, label_N: np.ndarray) -> Floats:
    """Running mean of the label's probability, [N], with weights BETA^(age in epochs) that sum to 1."""
    weight_E = BETA ** np.arange(len(p_ENC))[::-1]
    own_EN = np.stack([label_probability(p_NC, label_N) for p_NC in p_ENC])
    return np.asarray(weight_E @ own_EN / weight_E.sum())


def without_noise(p_NC: np.ndarray, given_CC: Floats) -> Floats:
    """Probabilities r of the true classes, [N, C], from those of noisy labels, p.

    Args:
        p_NC: probabilities of labels.
        given_CC: P(label | true class), [true, given].
    """
    p_NC = p_NC.astype(np.float64)
    r_NC = p_NC
    for _ in range(ITERATIONS):
        r_NC = r_NC * ((p_NC / np.maximum(r_NC @ given_CC, np.finfo(np.float64).tiny)) @ given_CC.T)
        r_NC = r_NC / r_NC.sum(axis=1, keepdims=True)
    return r_NC


def given_label(r_NC: Floats, label_N: np.ndarray, given_CC: Floats) -> Floats:
    """Posterior q of the true class given image and label, [N, C], by Bayes' rule."""
    joint_NC = np.maximum(r_NC, np.finfo(np.float32).tiny) * given_CC[:, label_N].T
    return np.asarray(joint_NC / joint_NC.sum(axis=1, keepdims=True))


def verdicts(r_NC: Floats, suggested_N: np.ndarray, label_N: np.ndarray) -> NDArray[np.int64]:
    """Index in VERDICTS, [N]: ambiguous if no class has a majority; else mislabelled if another class is suggested."""
    names_N = np.where(
        r_NC.max(axis=1) <= MAJORITY, "ambiguous", np.where(suggested_N != label_N, "mislabelled", "clean")
    )
    return np.asarray(np.argmax(names_N[:, None] == np.array(VERDICTS), axis=1))
