"""95 % confidence intervals of metrics, and the paired comparison of two models on the same samples.

SciPy computes what it has. `scipy.stats` is imported by the functions that need it: importing it takes about 1 s of
processor time, twice that of all else that `nla compare` imports. The two bootstraps are ours, because both need only
a few counts per resample where `scipy.stats.bootstrap` would draw every sample.

Legend: N samples, C classes, R resamples, K statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

PERCENTILES = (2.5, 97.5)
"""Ends of a 95 % CI."""

SLICE = 1 << 22
"""Numbers that a bootstrap draws at a time: 32 MB."""


def bootstrap(
    counts_CC: np.ndarray, statistics: Mapping[str, Callable[[np.ndarray], np.ndarray]], resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """(low, high) of each statistic of a confusion matrix; a statistic maps counts [R, C, C] to values [R].

    Drawing N samples with replacement draws the cells of their confusion matrix multinomially, so that only
    R x C x C numbers are drawn instead of R x N; in slices, so that memory grows neither with R nor with C.
    """
    total = int(counts_CC.sum())
    share_K = counts_CC.ravel() / total
    rng = np.random.default_rng(seed)
    values: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    rows = max(SLICE // share_K.size, 1)
    for start in range(0, resamples, rows):
        drawn_RK = rng.multinomial(total, share_K, size=min(rows, resamples - start))
        for name, statistic in statistics.items():
            values[name].append(statistic(drawn_RK.reshape(-1, *counts_CC.shape)))
    return {name: percentiles(np.concatenate(value_R)) for name, value_R in values.items()}


def resampled_means(value_NK: np.ndarray, resamples: int, seed: int) -> Floats:
    """Means of the K columns over N rows drawn with replacement, [R, K]. The order of the rows does not matter."""
    sorted_NK, total = value_NK[np.lexsort(value_NK.T)], len(value_NK)
    rng = np.random.default_rng(seed)
    mean_RK = np.empty((resamples, sorted_NK.shape[1]))
    for mean_K in mean_RK:
        times_N = np.bincount(rng.integers(total, size=total), minlength=total)
        mean_K[:] = times_N.astype(np.float64) @ sorted_NK
    return mean_RK / total


def percentiles(value_R: np.ndarray) -> tuple[float, float]:
    """(low, high) of a statistic from its values on resamples."""
    low, high = np.percentile(value_R, PERCENTILES)
    return float(low), float(high)


def reflected(value_R: np.ndarray, estimate: float) -> tuple[float, float]:
    """(low, high) of a non-negative statistic that noise inflates, such as a sum of absolute values.

    Resamples carry the noise twice, so their percentiles are too high by as much as the estimate itself is; they are
    reflected about the estimate (the basic bootstrap, Davison and Hinkley 1997).
    """
    low, high = percentiles(value_R)
    return max(2 * estimate - high, 0.0), max(2 * estimate - low, 0.0)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval (low, high) of a proportion (Wilson 1927), suitable for few trials; `trials` is at least 1."""
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


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
    """McNemar's exact two-sided p: probability of so uneven a split of the discordant samples if the models are equal.

    It is the binomial test of a proportion of 1/2; 1 without discordant samples.
    """
    from scipy.stats import binomtest

    discordant = only_a + only_b
    return float(binomtest(only_a, discordant).pvalue) if discordant else 1.0
