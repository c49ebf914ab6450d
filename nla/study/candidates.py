"""Settings tried in tuning, ranked by their validation scores over the conditions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any, NamedTuple

from nla.errors import TrainingError


class Attempt(NamedTuple):
    """One training of the tuning."""

    method: str
    setting: int
    """Number of the values; the same under every condition."""
    condition: str
    values: Mapping[str, Any]
    reached: float | None
    """The objective on validation; None if training diverged."""


class Candidate(NamedTuple):
    """One setting of a method, with its scores."""

    values: Mapping[str, Any]
    under: dict[str, float | None]
    """Objective on validation, by condition; None if training diverged."""

    @property
    def reached(self) -> float | None:
        """Mean over the conditions; None if training diverged under any of them."""
        values = [value for value in self.under.values() if value is not None]
        return fmean(values) if len(values) == len(self.under) else None


def candidates_of(attempts: Iterable[Attempt]) -> dict[str, list[Candidate]]:
    """Method -> its candidates, ordered by setting number."""
    found: dict[str, dict[int, Candidate]] = {}
    for attempt in attempts:
        candidate = found.setdefault(attempt.method, {}).setdefault(attempt.setting, Candidate(attempt.values, {}))
        candidate.under[attempt.condition] = attempt.reached
    return {method: [of[number] for number in sorted(of)] for method, of in found.items()}


def best_of(method: str, candidates: Iterable[Candidate]) -> Candidate:
    """The candidate with the highest mean; the first of equals.

    Raises:
        TrainingError: every candidate diverged under some condition.
    """
    scored = [(candidate.reached, candidate) for candidate in candidates]
    trained = [(reached, candidate) for reached, candidate in scored if reached is not None]
    if not trained:
        raise TrainingError(
            f"every setting of {method} diverged under a condition, that of the grid too: lower train.lr in grid.yaml"
        )
    return max(trained, key=lambda pair: pair[0])[1]
