"""Compares each method under one condition with its best rival and with the reference.

The best rival is the other method with the highest mean on test: chosen with hindsight, so the hardest one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from nla.config.train import METRICS
from nla.study.statistics import Difference, differences, discordant, holm, pooled

Predicted = Mapping[str, Mapping[int, np.ndarray]]
"""Method -> seed -> class of each test row."""


class Question(NamedTuple):
    """Is `method` better than `other` by `metric`?"""

    method: str
    metric: str
    kind: str
    """Role of `other`: `rival` or `reference`."""
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
    """Paired comparisons by method, metric and kind, JSON-able; methods are compared on the seeds they share.

    `p_holm` is corrected for all tests of the condition; two methods compared by one metric are one test, whichever
    asks.

    Args:
        predicted: predictions of the epoch chosen on validation.
        mean: metric -> method -> its mean on test, which determines the best rival.
    """
    questions = list(_questions(predicted, mean, reference))
    found = {pair: _compare(predicted, *pair, label_N, resamples) for pair in {q.test[:2] for q in questions}}
    tests = sorted({q.test for q in questions})
    p_holm = dict(zip(tests, holm([found[a, b][metric].p for a, b, metric in tests]).tolist(), strict=True))
    report: dict[str, dict[str, dict[str, Any]]] = {method: {} for method in predicted}
    for q in questions:
        first, second, _ = q.test
        difference = found[first, second][q.metric]
        shown = _shown(difference if q.method == first else -difference)
        against = {"method": q.other, **shown, "p_holm": p_holm[q.test]}
        if q.metric == "accuracy":
            against["mcnemar"] = _mcnemar(predicted, q.method, q.other, label_N)
        report[q.method].setdefault(q.metric, {})[q.kind] = {**against, "n": len(_shared(predicted, first, second))}
    return report


def _questions(predicted: Predicted, mean: Mapping[str, Mapping[str, float]], reference: str) -> Iterator[Question]:
    for metric in METRICS:
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
    of_seeds = discordant(*_pair(predicted, a, b), label_N)
    by_seed = dict(zip(map(str, _shared(predicted, a, b)), (found.p for found in of_seeds), strict=True))
    return {**pooled(of_seeds)._asdict(), "p_by_seed": by_seed}


def _shown(difference: Difference) -> dict[str, float]:
    return {"difference": difference.value, "low": difference.low, "high": difference.high, "p": difference.p}
