"""95 % intervals: bootstrap of a confusion matrix and of means over samples, and Wilson's for a proportion.

Paired comparison of two models on the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

PERCENTILES = (2.5, 97.5)
Z = 1.959964  # normal quantile of a 95 % interval


def bootstrap(
    counts_CC: np.ndarray, statistics: Mapping[str, Callable[[np.ndarray], np.ndarray]], resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """(low, high) of each statistic; a statistic maps counts [R, C, C] to values [R].

    Drawing N samples with replacement draws the cells of their confusion matrix multinomially, so that only
    R x C x C numbers are drawn instead of R x N.
    """
    total = int(counts_CC.sum())
    rng = np.random.default_rng(seed)
    drawn_RK = rng.multinomial(total, counts_CC.ravel() / total, size=resamples)
    drawn_RCC = drawn_RK.reshape(resamples, *counts_CC.shape)
    return {name: percentiles(statistic(drawn_RCC)) for name, statistic in statistics.items()}


def resampled_means(value_NK: np.ndarray, resamples: int, seed: int) -> Floats:
    """Means of the K columns over N rows drawn with replacement, [R, K]. The order of the rows does not matter."""
    sorted_NK, total = value_NK[np.lexsort(value_NK.T)], len(value_NK)
    rng = np.random.default_rng(seed)
    times_N = (np.bincount(rng.integers(total, size=total), minlength=total) for _ in range(resamples))
    return np.stack([times.astype(np.float64) @ sorted_NK for times in times_N]) / total


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927), suitable for few trials; `trials` is at least 1."""
    share, weight = successes / trials, Z**2 / trials
    middle = (share + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * np.sqrt(share * (1 - share) / trials + weight / (4 * trials))
    low, high = max(float(middle - half), 0.0), min(float(middle + half), 1.0)
    return min(low, share), max(high, share)  # rounding must not exclude the proportion itself at 0 or 1


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
