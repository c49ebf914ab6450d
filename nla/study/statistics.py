"""How much better is one method than another? A t interval for seeds and test rows that both vary by chance.

Both methods of a study train with the same seeds and classify the same test rows. What is compared is the difference of
their correctness, d = 1, 0 or -1 for each seed s and row i, and d = mean + seed_s + row_i + rest_si: seeds and rows are
crossed random effects, as readers and cases are in radiology (Dorfman, Berbaum and Metz 1992, Investigative Radiology
27(9), 723-731). The score is the mean over H strata, each of n_h rows, of the mean of d in each: accuracy has one
stratum, the mean accuracy one per class, so that it is a mean of rows with weights 1 / (C n_c). With the mean squares
of a two-way analysis of variance within each stratum, the variance of the score is estimated by

    v = A + B - E,   A = variance of the S seeds' scores / S,   B = sum MS_row,h / (H^2 S n_h),
                     E = sum MS_rest,h / (H^2 S n_h)

for one stratum (MS_seed + MS_row - MS_rest) / (S n): A and B both contain E, which is taken off once. v is never below
A or B, as it would be where the rest exceeds what seeds or rows add. Satterthwaite's degrees of freedom (1946,
Biometrics Bulletin 2(6), 110-114) are v^2 / (A^2 / (S - 1) + sum B_h^2 / (n_h - 1) + sum E_h^2 / ((S - 1)(n_h - 1))).

The interval is the wider of two: this one, and the t interval of the S seeds' scores alone (A, S - 1); p is the larger
of their two. In 4,000 simulated studies per case (benchmarks/coverage_of_intervals.py), with differences of seeds that
have standard deviations of 0 to 2.3 points, Satterthwaite's alone holds the true difference of accuracy in 92.7 to
97.4 % with 3 seeds and in 88.7 to 97.0 % with 2: A, and with it v, is then sometimes far too small, and its degrees of
freedom too many. The wider of the two holds it in 95.3 % or more with 3 seeds, and in 94.1 and 94.7 % or more with 5
and 10, where it rarely differs. S - 1 degrees of freedom for v hold it in 98 to 100 % with 3 seeds, by
intervals up to 1.7 times as wide. Mean accuracy is held in 94.3 % or more of all cases.

Legend: S seeds, N test rows, H strata, M tests; `predicted` are classes [S, N], one row per seed; `...` leading axes,
such as many studies at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

Floats = NDArray[np.float64]

LEVEL = 0.95
"""Of the intervals."""


@dataclass(frozen=True)
class Difference:
    """Difference between two methods' scores, in [-1, 1], with its 95 % interval."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided p of no difference; below .05 if and only if the interval excludes zero."""
    seeds: int

    def __neg__(self) -> Difference:
        """The same difference from the other method's side."""
        return Difference(-self.value, -self.high, -self.low, self.p, self.seeds)

    @property
    def p_ahead(self) -> float:
        """p of being ahead, in [0, 1]: below .05 if and only if the whole interval is above zero.

        Twice the one-sided p, so that its threshold is that of the two-sided one.
        """
        return self.p if self.value > 0 else 1.0


class Crossed(NamedTuple):
    """A score over crossed seeds and rows, [...] each: its value and what its variance consists of."""

    value: Floats
    seeds: int
    of_seeds: Floats
    """A: variance of the seeds' scores / S; 0 for a single seed."""
    of_rows: Floats
    """B."""
    of_rest: Floats
    """E."""
    df: Floats
    """Satterthwaite's degrees of freedom of `variance`; 1 where nothing varies."""

    @property
    def variance(self) -> Floats:
        """v, not below A and B."""
        return np.maximum(self.of_seeds + self.of_rows - self.of_rest, np.maximum(self.of_seeds, self.of_rows))

    def half_width(self, level: float = LEVEL) -> Floats:
        """Half of the wider interval."""
        tail = (1 + level) / 2
        both: Floats = np.sqrt(self.variance) * stdtrit(self.df, tail)
        return both if self.seeds == 1 else np.maximum(both, np.sqrt(self.of_seeds) * stdtrit(self.seeds - 1, tail))

    def p(self) -> Floats:
        """Two-sided p of a true value of zero: the larger one of the two intervals'."""
        both = _p(self.value, self.variance, self.df)
        return both if self.seeds == 1 else np.maximum(both, _p(self.value, self.of_seeds, self.seeds - 1))


def differences(predicted_a_SN: ArrayLike, predicted_b_SN: ArrayLike, label_N: ArrayLike) -> dict[str, Difference]:
    """`accuracy` and `mean_accuracy` of a - b, with their intervals.

    With one seed only rows are random: the result then holds for these two runs, not for the methods. A score without
    an interval is left out: mean accuracy if a class has a single row, whose variance is unknown, both if all rows are
    one. Nothing depends on the order of seeds and rows.

    Raises:
        ValueError: the shapes of a, b and the labels do not match.
    """
    gain_SN, label = _gains(predicted_a_SN, predicted_b_SN, label_N), np.asarray(label_N)
    by_class = [gain_SN[:, label == c] for c in np.unique(label)]
    strata = {"accuracy": [gain_SN], "mean_accuracy": by_class}
    return {name: _difference(crossed(own)) for name, own in strata.items() if all(gain.shape[1] > 1 for gain in own)}


def crossed(strata: Sequence[Floats]) -> Crossed:
    """The mean over strata of the mean over their values [..., S, rows >= 2], and the parts of its variance."""
    seeds, share = strata[0].shape[-2], 1 / len(strata)
    of_seed: Floats = share * sum(gain.mean(axis=-1) for gain in strata)  # [..., S]
    many = seeds > 1
    of_seeds = of_seed.var(axis=-1, ddof=1) / seeds if many else np.zeros(of_seed.shape[:-1])
    rows, rest, squares = np.zeros_like(of_seeds), np.zeros_like(of_seeds), np.zeros_like(of_seeds)
    for gain in strata:
        n, of_row = gain.shape[-1], gain.mean(axis=-2)
        b = share**2 * of_row.var(axis=-1, ddof=1) / n
        left = gain - of_row[..., None, :] - gain.mean(axis=-1, keepdims=True) + of_row.mean(axis=-1)[..., None, None]
        e = share**2 * np.square(left).sum(axis=(-2, -1)) / (max(seeds - 1, 1) * (n - 1) * seeds * n)
        rows, rest = rows + b, rest + e
        squares += b**2 / (n - 1) + e**2 / (max(seeds - 1, 1) * (n - 1))
    squares += of_seeds**2 / max(seeds - 1, 1)
    found = Crossed(of_seed.mean(axis=-1), seeds, of_seeds, rows, rest, np.ones_like(squares))
    return found._replace(df=np.divide(found.variance**2, squares, out=found.df, where=squares > 0))


def holm(p_M: ArrayLike) -> Floats:
    """Holm-adjusted p of M tests, [M]: rejecting those below alpha makes any false rejection with probability <= alpha.

    The i-th smallest, from 0, is multiplied by M - i, and is never below a smaller one's (Holm 1979, "A simple
    sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2)). SciPy does not have it;
    statsmodels does (`multipletests`), but would add a dependency and 1.7 s of import time for four lines.
    """
    p = np.asarray(p_M, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1)
    return adjusted


def _gains(predicted_a_SN: ArrayLike, predicted_b_SN: ArrayLike, label_N: ArrayLike) -> Floats:
    """1 where only a is right, -1 where only b is, else 0, [S, N]."""
    a, b, label = np.asarray(predicted_a_SN), np.asarray(predicted_b_SN), np.asarray(label_N)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1:] != label.shape or a.size == 0:
        raise ValueError(f"predictions {a.shape} and {b.shape} must both be [seeds, rows], for labels {label.shape}")
    gain_SN: Floats = (a == label).astype(np.float64) - (b == label)
    return gain_SN


def _difference(found: Crossed) -> Difference:
    value, half = float(found.value), float(found.half_width())
    return Difference(value, value - half, value + half, float(found.p()), found.seeds)


def _p(value: Floats, variance: Floats, df: Floats | int) -> Floats:
    """Two-sided p of t; 1 where nothing varies and nothing differs."""
    t = np.abs(value) / np.sqrt(np.where(variance > 0, variance, 1))
    p: Floats = 2 * stdtr(df, -np.where(variance > 0, t, np.where(value == 0, 0, np.inf)))
    return p
