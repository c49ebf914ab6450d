"""Every method of a condition against every other one, and the claims of grid.yaml.

A method is ahead by a score if its interval against each of the others lies above zero. All of these tests must
succeed, so that none is corrected for their number (an intersection-union test; Berger 1982, Technometrics 24(4),
295-300). Its p is the largest over the others, and the other that it belongs to is the hardest one. Several claims are
corrected for their number by Holm.

Legend: N test rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from nla.config.base import Section
from nla.study.statistics import Difference, differences, holm

Predicted = Mapping[str, Mapping[int, np.ndarray]]
"""Method -> seed -> class of each test row."""
Against = dict[str, dict[str, Difference]]
"""Score -> other method -> the difference from it."""
ALPHA = 0.05
"""A claim holds if its p after Holm is below."""


class Claim(Section):
    """Under `condition`, `method` is ahead of each of the others by `score`."""

    NAME: ClassVar[str] = "claims"

    method: str
    condition: str
    block: str | None = None
    """None: the only one that has the condition, if there are blocks."""
    score: Literal["accuracy", "mean_accuracy"]
    against: Annotated[list[str], Field(min_length=1)] | None = None
    """The others; None: all other methods."""

    def others(self, methods: Iterable[str]) -> list[str]:
        """The methods that it must be ahead of."""
        return self.against or [name for name in methods if name != self.method]


def comparisons(predicted: Predicted, label_N: np.ndarray) -> dict[str, Against]:
    """Method -> its differences from the others that share a seed with it, on the seeds that both have."""
    found: dict[str, Against] = {method: {} for method in predicted}
    for a, b in itertools.combinations(predicted, 2):
        seeds = sorted(predicted[a].keys() & predicted[b].keys())
        if seeds:
            of_a, of_b = (np.stack([predicted[name][seed] for seed in seeds]) for name in (a, b))
            for score, difference in differences(of_a, of_b, label_N).items():
                found[a].setdefault(score, {})[b] = difference
                found[b].setdefault(score, {})[a] = -difference
    return found


def hardest(others: Mapping[str, Difference]) -> str:
    """The other method that it is least certain to be ahead of: by p, then by the lower end of the interval."""
    return max(others, key=lambda name: (others[name].p_ahead, -others[name].low))


def is_ahead(others: Mapping[str, Difference]) -> bool:
    """Whether the interval against each other method lies above zero."""
    return all(difference.low > 0 for difference in others.values())


def to_json(against: Against) -> dict[str, Any]:
    """A method's comparisons by score, JSON-serializable."""
    return {
        score: {
            "ahead": is_ahead(others),
            "hardest": hardest(others),
            "others": {name: _numbers(difference) for name, difference in others.items()},
        }
        for score, others in against.items()
    }


def outcomes(claims: Sequence[Claim], found: Mapping[str, Mapping[str, Against]]) -> list[dict[str, Any]]:
    """The claims with their tests, JSON-serializable.

    A claim that cannot be tested, because the report leaves its condition out, a method has no record or no interval,
    or two methods share less than two seeds, has no difference. It does not hold, and counts as one of the claims.

    Args:
        claims: those of the study, for all of which p is corrected.
        found: condition -> method -> its comparisons.
    """
    tests = [_differences(claim, found.get(claim.condition, {})) for claim in claims]
    p = [others[hardest(others)].p_ahead if others else 1.0 for others in tests]
    return [
        {
            **claim.model_dump(include={"method", "condition", "score"}),
            "others": claim.others(found.get(claim.condition, {})),
            "hardest": hardest(others) if others else None,
            **(_numbers(others[hardest(others)]) if others else {}),
            "p": p_ahead,
            "p_holm": p_holm,
            "holds": p_holm < ALPHA,
        }
        for claim, others, p_ahead, p_holm in zip(claims, tests, p, holm(p).tolist(), strict=True)
    ]


def _differences(claim: Claim, methods: Mapping[str, Against]) -> dict[str, Difference]:
    """Other method -> the claim's difference from it; {} if it cannot be tested against one of them."""
    own = methods.get(claim.method, {}).get(claim.score, {})
    others = claim.others(methods)
    can_be_tested = all(name in own and own[name].seeds > 1 for name in others)
    return {name: own[name] for name in others} if can_be_tested else {}


def _numbers(difference: Difference) -> dict[str, Any]:
    return {
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "p": difference.p,
        "n": difference.seeds,
    }
