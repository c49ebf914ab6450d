"""Who is compared with whom, on which seeds, and from whose side a difference is told."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest

from nla.study.statistics import comparisons, differences, discordant, holm, pooled

RESAMPLES = 200
LABELS = np.arange(60) % 3
MEAN = {
    "accuracy": {"ce": 0.7, "elr": 0.8, "plus": 0.9, "alone": 0.95},
    "mean_accuracy": {"ce": 0.9, "elr": 0.6, "plus": 0.7, "alone": 0.95},
}


@cache
def predicted() -> dict[str, dict[int, np.ndarray]]:
    """`plus` has one seed fewer, `alone` none that another has; the better a method, the more rows are right."""
    rng = np.random.default_rng(0)

    def run(right: float) -> np.ndarray:
        return np.where(rng.random(60) < right, LABELS, (LABELS + 1) % 3)

    return {
        "ce": {3: run(0.5), 1: run(0.5), 2: run(0.5)},
        "elr": {1: run(0.6), 2: run(0.6), 3: run(0.6)},
        "plus": {2: run(0.9), 3: run(0.9)},
        "alone": {7: run(1)},
    }


@cache
def compared(reference: str = "ce") -> dict[str, Any]:
    return comparisons(predicted(), MEAN, LABELS, reference, RESAMPLES)


def stacked(method: str, seeds: list[int]) -> np.ndarray:
    return np.stack([predicted()[method][seed] for seed in seeds])


def test_the_rival_has_the_highest_mean_of_those_with_a_common_seed() -> None:
    found = compared()
    assert found["alone"] == {}
    rivals = {
        metric: {name: against[metric]["rival"]["method"] for name, against in found.items() if against}
        for metric in MEAN
    }
    assert rivals["accuracy"] == {"ce": "plus", "elr": "plus", "plus": "elr"}
    assert rivals["mean_accuracy"] == {"ce": "plus", "elr": "ce", "plus": "ce"}
    references = {
        name: {k["reference"]["method"] for k in of.values() if "reference" in k} for name, of in found.items()
    }
    assert references == {"ce": set(), "elr": {"ce"}, "plus": {"ce"}, "alone": set()}


def test_a_reference_without_common_seeds_is_nobodys() -> None:
    for of in compared("alone").values():
        assert all(set(kinds) == {"rival"} for kinds in of.values())


@pytest.mark.parametrize("metric", MEAN)
@pytest.mark.parametrize(
    ("method", "kind", "other", "seeds"),
    [
        ("plus", "reference", "ce", [2, 3]),
        ("elr", "reference", "ce", [1, 2, 3]),
        ("ce", "rival", "plus", [2, 3]),
    ],
)
def test_numbers_are_those_of_the_method_less_the_other(
    metric: str, method: str, kind: str, other: str, seeds: list[int]
) -> None:
    found = compared()[method][metric][kind]
    first, second = sorted((method, other))
    of_first = differences(stacked(first, seeds), stacked(second, seeds), LABELS, RESAMPLES)[metric]
    expected = of_first if method == first else -of_first
    numbers = {"difference": expected.value, "low": expected.low, "high": expected.high, "p": expected.p}
    assert {name: found[name] for name in numbers} == numbers
    assert (found["method"], found["n"]) == (other, len(seeds))
    assert np.sign(found["difference"]) == (-1 if method == "ce" else 1)
    assert ("mcnemar" in found) == (metric == "accuracy")


def test_mcnemar_counts_the_rows_of_the_shared_seeds() -> None:
    found = compared()["plus"]["accuracy"]["reference"]["mcnemar"]
    of_seeds = discordant(stacked("plus", [2, 3]), stacked("ce", [2, 3]), LABELS)
    assert found["p_by_seed"] == {"2": of_seeds[0].p, "3": of_seeds[1].p}
    plus, ce = stacked("plus", [2, 3]) == LABELS, stacked("ce", [2, 3]) == LABELS
    assert (found["only_a"], found["only_b"]) == ((plus & ~ce).sum(), (ce & ~plus).sum())
    assert found["p"] == pooled(of_seeds).p


def test_a_pair_is_one_test_for_holm_whoever_asks() -> None:
    """By accuracy ce-elr, ce-plus and elr-plus are asked about, by mean accuracy ce-elr and ce-plus."""
    tests: dict[tuple[str, ...], tuple[float, float]] = {}
    for name, of in compared().items():
        for metric, kinds in of.items():
            for against in kinds.values():
                pair = (*sorted((name, against["method"])), metric)
                assert tests.setdefault(pair, (against["p"], against["p_holm"])) == (against["p"], against["p_holm"])
    assert len(tests) == 5
    p, corrected = zip(*tests.values(), strict=True)
    np.testing.assert_allclose(corrected, holm(p))


def test_json_holds_it() -> None:
    assert json.loads(json.dumps(compared(), allow_nan=False)) == compared()
