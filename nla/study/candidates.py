"""What tuning compares: a method with certain values, by what it reached on validation under each condition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any, NamedTuple

from nla.errors import TrainingError


class Attempt(NamedTuple):
    """One training of the tuning."""

    method: str
    setting: int
    """Number of the values, the same under every condition."""
    condition: str
    values: Mapping[str, Any]
    reached: float | None
    """The objective on validation; None diverged."""


class Candidate(NamedTuple):
    """Values that were tried."""

    values: Mapping[str, Any]
    under: dict[str, float | None]
    """What was reached, by condition."""

    @property
    def reached(self) -> float | None:
        """On the average of the conditions; None where one of them diverged."""
        values = [value for value in self.under.values() if value is not None]
        return fmean(values) if len(values) == len(self.under) else None


def candidates_of(attempts: Iterable[Attempt]) -> dict[str, list[Candidate]]:
    """Method -> what was tried of it, by number."""
    found: dict[str, dict[int, Candidate]] = {}
    for attempt in attempts:
        candidate = found.setdefault(attempt.method, {}).setdefault(attempt.setting, Candidate(attempt.values, {}))
        candidate.under[attempt.condition] = attempt.reached
    return {method: [of[number] for number in sorted(of)] for method, of in found.items()}


def best_of(method: str, candidates: Iterable[Candidate]) -> Candidate:
    """The one that reached most, the first of equals. Raises TrainingError where each diverged under some condition."""
    scored = [(candidate.reached, candidate) for candidate in candidates]
    trained = [(reached, candidate) for reached, candidate in scored if reached is not None]
    if not trained:
        raise TrainingError(
            f"every setting of {method} diverged under a condition, that of the grid too: lower train.lr in grid.yaml"
        )
    return max(trained, key=lambda pair: pair[0])[1]
