"""Label noise as out-of-sample probabilities show it: its rate, and the posterior of each label.

    P(label y | true class k) = 1 - e if y = k, else f = e / (C - 1)         symmetric noise of rate e
    r_k = max(p_k - f, LEFT p_k) / sum_j max(p_j - f, LEFT p_j)              p without the noise
    q_k = r_k P(y | k) / sum_j r_j P(y | j)                                  P(true class k | image, label y)
    e   = the highest rate whose log-likelihood, sum log sum_k r_k P(y | k) over the labels, is at most SLACK below
          the largest

A model that learnt labels with symmetric noise gives no class less than f. So p - f is what is left of it (the inverse
of the noise matrix, as in Patrini et al., arXiv 1609.03683). A rate that is too high explains the labels worse, as it
cuts off what the model knows. One that is too low explains them as well, as it takes noise for ambiguity. So the
highest is taken, under which some images are of one class for sure (maximal denoising: Scott et al., arXiv 1303.1208).
Labels of a split that the models did not learn have one most likely rate, which is taken.

Real noise is not symmetric: it prefers similar classes. What looks like a similar class is ambiguous rather than wrong,
and a rate for each pair of classes cannot be told from that.

Legend: N labels, C classes, R rates, B resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nla.evaluation.significance import PERCENTILES

Floats = NDArray[np.float64]
STEPS = 91
"""Rates that are tried."""
HIGHEST = 0.9
"""The highest of them, as a share of (C - 1) / C, at which labels say nothing."""
RESAMPLES = 400
"""Enough for the ends of a 95 % interval: ten resamples are outside each."""
SLACK = 1.92
"""Half of the 95 % quantile of chi squared with one degree of freedom: the likelihood-ratio interval (Wilks 1938)."""
LEFT = 0.01
"""Share that is left of probabilities below f: it keeps their order, where a floor of 0 would make them ties."""
TINY = float(np.finfo(np.float32).tiny)


class WrongLabels(NamedTuple):
    """Estimated number of wrong labels of each class and, last, of all: [C + 1] each."""

    estimate: Floats
    low: Floats
    high: Floats
    """Ends of the 95 % interval."""


@dataclass(frozen=True)
class NoiseFit:
    """How well each rate explains N labels, and the rate that is taken."""

    rates_R: Floats
    gain_RN: NDArray[np.float32]
    """log P(label | image) at each rate, less that at rate 0: small numbers, whose sums are exact enough."""
    wrong_RN: NDArray[np.float32]
    """P(the label is wrong | image, label) at each rate."""
    label_N: np.ndarray
    classes: int
    slack: float
    """How far below the largest the log-likelihood of the rate may be."""

    @property
    def rate(self) -> float:
        """The rate that is taken."""
        return float(self.rates_R[self._taken(np.ones(len(self.label_N)))])

    def _taken(self, times_N: np.ndarray) -> int:
        """Its position, if each row counts so many times."""
        gain_R = self.gain_RN @ times_N.astype(np.float32)
        return int(np.flatnonzero(gain_R >= gain_R.max() - self.slack)[-1])

    def wrong_labels(self, seed: int, resamples: int = RESAMPLES) -> WrongLabels:
        """Sums of P(wrong), with 95 % bootstrap intervals over rows.

        The rate is estimated in each resample: taking it as known would make the intervals too narrow.
        """
        rng, total = np.random.default_rng(seed), len(self.label_N)
        drawn = (np.bincount(rng.integers(total, size=total), minlength=total) for _ in range(resamples))
        low, high = np.percentile(np.stack([self._wrong(times_N) for times_N in drawn]), PERCENTILES, axis=0)
        return WrongLabels(self._wrong(np.ones(total)), low, high)

    def _wrong(self, times_N: np.ndarray) -> Floats:
        """[C + 1], if each row counts so many times."""
        wrong_C = np.bincount(self.label_N, times_N * self.wrong_RN[self._taken(times_N)], self.classes)
        return np.append(wrong_C, wrong_C.sum())


def fit_noise(p_NC: np.ndarray, label_N: np.ndarray, learnt_rate: float | None = None) -> NoiseFit:
    """Tries the rates.

    Args:
        p_NC: probabilities.
        label_N: labels as given.
        learnt_rate: rate of noise in the labels that the model learnt; None: they are like these.
    """
    classes, rows = p_NC.shape[1], np.arange(len(label_N))
    rates_R = np.linspace(0, HIGHEST, STEPS) * (classes - 1) / classes
    gain_RN, wrong_RN = (np.empty((STEPS, len(label_N)), np.float32) for _ in range(2))
    log_0_N = np.zeros(len(label_N))
    for i, rate in enumerate(rates_R):
        own_N = without_noise(p_NC, rate if learnt_rate is None else learnt_rate)[rows, label_N]
        right_N = own_N * (1 - rate)
        label_given_image_N = right_N + (1 - own_N) * rate / (classes - 1)
        log_N = np.log(np.maximum(label_given_image_N, TINY))
        log_0_N = log_0_N if i else log_N
        gain_RN[i] = log_N - log_0_N
        wrong_RN[i] = 1 - right_N / np.maximum(label_given_image_N, TINY) if rate else 0
    return NoiseFit(rates_R, gain_RN, wrong_RN, label_N, classes, SLACK if learnt_rate is None else 0.0)


def without_noise(p_NC: np.ndarray, rate: float) -> Floats:
    """Probabilities r of the true classes, [N, C], from those of labels with symmetric noise of this rate."""
    p_NC = p_NC.astype(np.float64)
    left_NC = np.maximum(p_NC - rate / (p_NC.shape[1] - 1), LEFT * p_NC)
    return np.asarray(left_NC / left_NC.sum(axis=1, keepdims=True))


def true_class(r_NC: Floats, label_N: np.ndarray, rate: float) -> Floats:
    """Posterior q of the true class given image and label, [N, C], by Bayes' rule."""
    is_label_NC = label_N[:, None] == np.arange(r_NC.shape[1])
    joint_NC = np.maximum(r_NC, TINY) * np.where(is_label_NC, 1 - rate, rate / (r_NC.shape[1] - 1))
    return np.asarray(joint_NC / np.maximum(joint_NC.sum(axis=1, keepdims=True), TINY))
