"""Is one method better than another? Paired tests over the seeds and test rows that both share.

Seeds and test rows both vary by chance, and they are crossed: every seed sees every row. So both are drawn with
replacement, the same for both methods (the pigeonhole bootstrap, Owen 2007, "The pigeonhole bootstrap", Annals of
Applied Statistics 1(2), 386-411). Variation that is due to neither the seed nor the row alone is counted up to three
times, which is conservative; with few seeds that differ in level the interval is too narrow, because their spread is
underestimated.

`comparisons` tests each method under one condition against the reference and against the best other method: the one
with the highest mean on test. Chosen on test data, it is the hardest one to beat.

Legend: S seeds, N test rows, R resamples, K patterns, M tests; `predicted` are classes [S, N], one row per seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nla.config.train import ACCURACIES
from nla.evaluation.significance import PERCENTILES, mcnemar

Floats = NDArray[np.float64]

RESAMPLES = 5000
"""Bootstrap resamples: the smallest possible p is 2 / 5,001, or 0.02 after Holm's correction for fifty tests."""


@dataclass(frozen=True)
class Difference:
    """Difference between two methods' rates of correct rows, in [-1, 1], with its 95 % CI."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided p of no difference; at least 2 / (R + 1)."""

    def __neg__(self) -> Difference:
        """The same difference from the other method's side."""
        return Difference(-self.value, -self.high, -self.low, self.p)


class Discordant(NamedTuple):
    """Numbers of rows that only one method gets right, and McNemar's p."""

    only_a: int
    only_b: int
    p: float


def differences(
    predicted_a_SN: ArrayLike,
    predicted_b_SN: ArrayLike,
    label_N: ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Difference]:
    """`accuracy` and `mean_accuracy` of a - b, by a paired bootstrap over seeds and rows.

    Mean accuracy draws rows within each class, so that no class vanishes. With one seed only rows are drawn: the result
    then holds for these two runs, not for the methods. The order of the seeds does not matter.

    Raises:
        ValueError: the shapes of a, b and the labels do not match.
    """
    gain_SN = _gains(predicted_a_SN, predicted_b_SN, label_N)
    label = np.asarray(label_N)
    by_class = [gain_SN[:, label == c] for c in np.unique(label)]
    return {
        name: _difference(strata, resamples, np.random.default_rng(seed))
        for name, strata in (("accuracy", [gain_SN]), ("mean_accuracy", by_class))
    }


def discordant(predicted_a_SN: ArrayLike, predicted_b_SN: ArrayLike, label_N: ArrayLike) -> list[Discordant]:
    """Each seed's discordant rows and p, which test whether these two runs differ."""
    gain_SN = _gains(predicted_a_SN, predicted_b_SN, label_N)
    return [_discordant(gain_N) for gain_N in gain_SN]


def pooled(seeds: Sequence[Discordant]) -> Discordant:
    """The discordant rows of all seeds, pooled into one test.

    A row that several seeds judge alike counts as several rows: if seeds agree, p is too small.
    """
    only_a, only_b = sum(seed.only_a for seed in seeds), sum(seed.only_b for seed in seeds)
    return Discordant(only_a, only_b, mcnemar(only_a, only_b))


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


def _gains(predicted_a_SN: ArrayLike, predicted_b_SN: ArrayLike, label_N: ArrayLike) -> NDArray[np.int8]:
    """1 where only a is right, -1 where only b is, else 0, [S, N]."""
    a, b, label = np.asarray(predicted_a_SN), np.asarray(predicted_b_SN), np.asarray(label_N)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1:] != label.shape or a.size == 0:
        raise ValueError(f"predictions {a.shape} and {b.shape} must both be [seeds, rows], for labels {label.shape}")
    return (a == label).astype(np.int8) - (b == label).astype(np.int8)


def _difference(strata: list[NDArray[np.int8]], resamples: int, rng: np.random.Generator) -> Difference:
    """Difference of the mean over strata, each [S, its rows]."""
    seeds = len(strata[0])
    order = np.lexsort(np.concatenate(strata, axis=1).T)  # makes the draws independent of the order of the seeds
    share_RS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    drawn_RS = np.mean([_redrawn(gain_SN[order], resamples, rng) for gain_SN in strata], axis=0)
    drawn_R = (share_RS * drawn_RS).sum(axis=1)
    low, high = np.percentile(drawn_R, PERCENTILES)
    value = float(np.mean([gain_SN.mean() for gain_SN in strata]))
    return Difference(value, float(low), float(high), _two_sided(drawn_R))


def _redrawn(gain_SN: NDArray[np.int8], resamples: int, rng: np.random.Generator) -> Floats:
    """Mean gain of each seed over rows drawn with replacement, [R, S].

    Rows with the same gains in all seeds share one count, so K counts are drawn instead of N rows.
    """
    pattern_KS, rows_K = np.unique(gain_SN.T, axis=0, return_counts=True)
    rows = gain_SN.shape[1]
    drawn_RK = rng.multinomial(rows, rows_K / rows, size=resamples)
    mean_RS: Floats = drawn_RK @ pattern_KS.astype(np.float64) / rows
    return mean_RS


def _two_sided(drawn_R: Floats) -> float:
    """Twice the share of resamples on the rarer side of zero; adding one keeps it above 0.

    Davison and Hinkley 1997, "Bootstrap Methods and their Application", 4.2.3.
    """
    rarer = min(int((drawn_R <= 0).sum()), int((drawn_R >= 0).sum()))
    return min(1.0, 2 * (1 + rarer) / (1 + len(drawn_R)))


def _discordant(gain_N: NDArray[np.int8]) -> Discordant:
    only_a, only_b = int((gain_N > 0).sum()), int((gain_N < 0).sum())
    return Discordant(only_a, only_b, mcnemar(only_a, only_b))


Predicted = Mapping[str, Mapping[int, np.ndarray]]
"""Method -> seed -> class of each test row."""


class Question(NamedTuple):
    """Is `method` better than `other` by `metric`?"""

    method: str
    metric: str
    kind: str
    """Role of `other`: `rival`, the best other method, or `reference`."""
    other: str

    @property
    def test(self) -> tuple[str, str, str]:
        """Key of the statistical test, the same whichever method asks."""
        first, second = sorted((self.method, self.other))
        return first, second, self.metric


def comparisons(
    predicted: Predicted,
    mean: Mapping[str, Mapping[str, float]],
    label_N: np.ndarray,
    reference: str,
    resamples: int,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Paired comparisons by method, metric and kind, JSON-serializable; methods are compared on the seeds they share.

    `p_holm` is corrected for all tests of the condition; two methods compared by one metric are one test, whichever of
    them is asked about.

    Args:
        predicted: predictions of the epoch chosen on validation.
        mean: metric -> method -> its mean on test, which determines the best other method.
    """
    questions = list(_questions(predicted, mean, reference))
    found = {pair: _compare(predicted, *pair, label_N, resamples) for pair in {q.test[:2] for q in questions}}
    tests = sorted({q.test for q in questions})
    p_holm = dict(zip(tests, holm([found[a, b][metric].p for a, b, metric in tests]).tolist(), strict=True))
    report: dict[str, dict[str, dict[str, Any]]] = {method: {} for method in predicted}
    for q in questions:
        first, second, _ = q.test
        difference = found[first, second][q.metric]
        numbers = _to_json(difference if q.method == first else -difference)
        against = {"method": q.other, **numbers, "p_holm": p_holm[q.test]}
        if q.metric == "accuracy":
            against["mcnemar"] = _mcnemar(predicted, q.method, q.other, label_N)
        report[q.method].setdefault(q.metric, {})[q.kind] = {**against, "n": len(_shared(predicted, first, second))}
    return report


def _questions(predicted: Predicted, mean: Mapping[str, Mapping[str, float]], reference: str) -> Iterator[Question]:
    for metric in ACCURACIES:
        for method in predicted:
            others = [name for name in predicted if name != method and _shared(predicted, method, name)]
            if others:
                yield Question(method, metric, "rival", max(others, key=lambda name: mean[metric][name]))
            if reference in others:
                yield Question(method, metric, "reference", reference)


def _shared(predicted: Predicted, a: str, b: str) -> list[int]:
    """Seeds that both methods have."""
    return sorted(predicted[a].keys() & predicted[b].keys())


def _pair(predicted: Predicted, a: str, b: str) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of both methods on the shared seeds, [S, N] each."""
    first, second = (np.stack([predicted[name][seed] for seed in _shared(predicted, a, b)]) for name in (a, b))
    return first, second


def _compare(predicted: Predicted, a: str, b: str, label_N: np.ndarray, resamples: int) -> dict[str, Difference]:
    return differences(*_pair(predicted, a, b), label_N, resamples)


def _mcnemar(predicted: Predicted, a: str, b: str, label_N: np.ndarray) -> dict[str, Any]:
    seeds = discordant(*_pair(predicted, a, b), label_N)
    by_seed = dict(zip(map(str, _shared(predicted, a, b)), (seed.p for seed in seeds), strict=True))
    return {**pooled(seeds)._asdict(), "p_by_seed": by_seed}


def _to_json(difference: Difference) -> dict[str, float]:
    return {"difference": difference.value, "low": difference.low, "high": difference.high, "p": difference.p}
