"""Scores of a label, from probabilities by models that were not trained on it. All functions are pure.

    p       mean probabilities of the late epochs, over the image and its mirror image
    r, q    p without label noise, and the posterior of the true class given image and label (nla.audit.noise_rate)
    score   = 1 - q_y, the probability that the label y is wrong

The other scores need no rate of noise:

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

from nla.audit.noise_rate import Floats, NoiseFit, fit_noise, true_class, without_noise
from nla.audit.table import VERDICTS
from nla.evaluation.uncertainty import entropy, label_probability, log
from nla.evaluation.weight import position_weight

BETA = 0.7
"""Decay of the running mean: `plus` has the same."""
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
    noise: NoiseFit
    """Of these labels."""


def late_epochs(epochs: int) -> int:
    """Number of the last epochs whose probabilities are averaged: about a third, and even, as views alternate."""
    return max(2, 2 * round(epochs / 6))


def late_probabilities(p_ENC: np.ndarray) -> np.ndarray:
    """Mean probabilities of the late epochs, [N, C] of the same type."""
    return np.asarray(p_ENC[-late_epochs(len(p_ENC)) :].mean(axis=0, dtype=p_ENC.dtype))


def score_labels(p_ENC: np.ndarray, label_N: np.ndarray, learnt_rate: float | None = None) -> Scores:
    """All scores of the labels of one split.

    Args:
        p_ENC: probabilities after each epoch, at least 2.
        label_N: labels as given.
        learnt_rate: rate of noise in the labels that the models learnt; None: they are these.
    """
    p_NC = late_probabilities(p_ENC)
    own_N, nearest_N = label_probability(p_NC, label_N), nearest_other(p_NC, label_N)
    noise = fit_noise(p_NC, label_N, learnt_rate)
    r_NC = without_noise(p_NC, noise.rate if learnt_rate is None else learnt_rate)
    q_NC = true_class(r_NC, label_N, noise.rate)
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
        noise=noise,
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


def verdicts(r_NC: Floats, suggested_N: np.ndarray, label_N: np.ndarray) -> NDArray[np.int64]:
    """Index in VERDICTS, [N]: ambiguous if no class has a majority; else mislabelled if another class is suggested."""
    names_N = np.where(
        r_NC.max(axis=1) <= MAJORITY, "ambiguous", np.where(suggested_N != label_N, "mislabelled", "clean")
    )
    return np.asarray(np.argmax(names_N[:, None] == np.array(VERDICTS), axis=1))
