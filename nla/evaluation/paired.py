"""Paired comparison of two models on the same samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from nla.evaluation.intervals import percentiles


def paired_difference(
    correct_a_N: ArrayLike, correct_b_N: ArrayLike, resamples: int, seed: int
) -> tuple[float, float, float]:
    """(difference, low, high) of accuracy a - b with its paired 95 % percentile bootstrap interval, each in [-1, 1].

    `correct_*_N` mark which of the same N samples a model gets right. A resample depends only on how many samples only
    a, only b, and both or neither get right: three multinomial counts.
    """
    a, b = np.asarray(correct_a_N, bool), np.asarray(correct_b_N, bool)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise ValueError(f"both models must be judged on the same samples, at least one (got {a.shape} and {b.shape})")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    share_3 = np.array([only_a, only_b, a.size - only_a - only_b]) / a.size
    drawn_R3 = np.random.default_rng(seed).multinomial(a.size, share_3, size=resamples)
    low, high = percentiles((drawn_R3[:, 0] - drawn_R3[:, 1]) / a.size)
    return (only_a - only_b) / a.size, low, high


def mcnemar(only_a: int, only_b: int) -> float:
    """McNemar's exact two-sided p: probability of so uneven a split of the discordant rows if the models are equal.

    Twice the tail of a binomial with p = 1/2, at most 1; 1 without discordant rows.
    """
    rows, fewer = only_a + only_b, min(only_a, only_b)
    return min(1.0, 2 * sum(_binomials(rows, fewer)) / 2**rows)  # integers: exact for any number of rows


def _binomials(n: int, last: int) -> Iterator[int]:
    """Binomial coefficients (n over k) for k = 0, ..., `last`."""
    value = 1
    for k in range(last + 1):
        yield value
        value = value * (n - k) // (k + 1)
