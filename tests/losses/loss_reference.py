"""An independent derivation of the losses in NumPy float64: matrices, inverses and sums, sample by sample.

Shares no code with nla.losses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Gaussian:
    """One branch of the weight at the end of its schedule: mean, and diagonal and off-diagonal of S."""

    mean: tuple[float, float]
    a: float
    b: float

    @classmethod
    def of(cls, mean: tuple[float, float], s: float, r: float, sign: int) -> Gaussian:
        return cls(mean, s**2 + (s / r) ** 2, sign * (s**2 - (s / r) ** 2))


RELEASED_TRUE = Gaussian.of((0.5, 0.5), 0.80, 2, -1)
PAPER_TRUE = Gaussian.of((0.5, 0.5), 0.80, 2, +1)
FALSE = Gaussian.of((0.30, 0.15), 0.91, 6, +1)
VIDEO_TRUE, VIDEO_FALSE = Gaussian((0.5, 0.5), 0.75, -0.50), Gaussian((0.30, 0.15), 0.85, 0.80)
BRANCHES = {
    "released": (RELEASED_TRUE, FALSE, False),
    "paper": (PAPER_TRUE, FALSE, True),
    "released-video": (VIDEO_TRUE, VIDEO_FALSE, True),
}
"""Both Gaussians of each variant, and whether their peak is 1."""


def weight(x: float, y: float, eps: float, true: Gaussian, false: Gaussian, normalized: bool) -> float:
    """The weight of one sample at (p_GT, p_NN) = (x, y)."""
    branch, grown = (true, eps) if x >= y else (false, 1.0)
    covariance = np.array([[branch.a, branch.b * grown], [branch.b * grown, branch.a]])
    d = np.array([x, y]) - branch.mean
    peak = np.exp(-0.5 * d @ np.linalg.inv(covariance) @ d)
    return float(peak if normalized else peak / (2 * np.pi * np.sqrt(np.linalg.det(covariance))))


def softmax(z_C: np.ndarray) -> np.ndarray:
    """Probabilities of one sample."""
    e_C = np.exp(z_C - z_C.max())
    return e_C / e_C.sum()


def position(z_C: np.ndarray, given: int) -> tuple[float, float]:
    """(p_GT, p_NN) of one sample."""
    p_C = softmax(z_C)
    return p_C[given], max(p for c, p in enumerate(p_C) if c != given)


def weights(logits_NC: np.ndarray, given_N: np.ndarray, progress: float, variant: str, slope: float = 15) -> np.ndarray:
    """The weight of each sample by the published values of `variant`."""
    eps = 1 - np.exp(-slope * progress)
    positions = [position(z_C, g) for z_C, g in zip(logits_NC, given_N, strict=True)]
    return np.array([weight(x, y, eps, *BRANCHES[variant]) for x, y in positions])


def cross_entropy(z_C: np.ndarray, q_C: np.ndarray) -> float:
    """Of one sample against a distribution."""
    return float(-sum(q * np.log(p) for q, p in zip(q_C, softmax(z_C), strict=True)))


def kl(p_C: np.ndarray, q_C: np.ndarray) -> float:
    """KL(P||Q), a term a class."""
    return float(sum(p * np.log(p / q) for p, q in zip(p_C, q_C, strict=True) if p > 0))


def released_consistency(z_C: np.ndarray, other_C: np.ndarray) -> float:
    """[KL(G||P) + KL(G||Q)] / 2, G of the mean of the logits: the authors' code, for one sample."""
    g_C = softmax((z_C + other_C) / 2)
    return 0.5 * (kl(g_C, softmax(z_C)) + kl(g_C, softmax(other_C)))


def jensen_shannon(z_C: np.ndarray, other_C: np.ndarray) -> float:
    """[KL(P||M) + KL(Q||M)] / 2, M the mean of the probabilities, for one sample."""
    p_C, q_C = softmax(z_C), softmax(other_C)
    m_C = (p_C + q_C) / 2
    return 0.5 * (kl(p_C, m_C) + kl(q_C, m_C))


def nla(
    logits_NC: np.ndarray,
    flipped_NC: np.ndarray,
    target_NC: np.ndarray,
    progress: float,
    variant: str,
    w_N: np.ndarray | None = None,
) -> float:
    """The published loss of a batch against distributions; `w_N` in place of the weights of these logits."""
    if w_N is None:
        w_N = weights(logits_NC, target_NC.argmax(1), progress, variant)
    ce_N = np.array([cross_entropy(z_C, q_C) for z_C, q_C in zip(logits_NC, target_NC, strict=True)])
    pairs = list(zip(logits_NC, flipped_NC, strict=True))
    if variant != "paper":
        summed = sum(released_consistency(*pair) for pair in pairs)
        return 0.5 * ce_N.mean() + 0.5 * (w_N * ce_N).mean() + (0.5 if variant == "released" else 0.4) * summed
    return 0.5 * ((1 + w_N) * ce_N).mean() + 0.5 * float(np.mean([jensen_shannon(*pair) for pair in pairs]))
