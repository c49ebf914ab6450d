"""Is one model better than another on the same samples?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nla.evaluation.intervals import percentiles


def paired_difference(
    correct_a_N: ArrayLike, correct_b_N: ArrayLike, resamples: int, seed: int
) -> tuple[float, float, float]:
    """(difference, low, high) of accuracy a - b with its paired 95 % percentile bootstrap interval, each -1 to 1.

    `correct_*_N` say which of the same N samples a model gets right. A resample depends only on how many samples
    a alone, b alone, and both or neither get right: three multinomial counts.
    """
    a, b = np.asarray(correct_a_N, bool), np.asarray(correct_b_N, bool)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise ValueError(f"both models must be judged on the same samples, at least one (got {a.shape} and {b.shape})")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    share_3 = np.array([only_a, only_b, a.size - only_a - only_b]) / a.size
    drawn_R3 = np.random.default_rng(seed).multinomial(a.size, share_3, size=resamples)
    low, high = percentiles((drawn_R3[:, 0] - drawn_R3[:, 1]) / a.size)
    return (only_a - only_b) / a.size, low, high
