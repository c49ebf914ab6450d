"""The trials of a search: their epochs, how each ended, and which one is best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nla.config.train import METRICS
from nla.errors import TrainingError

Status = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class Trial:
    """One trial that has ended."""

    number: int
    """Counted from 0; the first has the values set in params.yaml, or the published ones."""
    id: str
    """Ray's id of the trial."""
    values: Mapping[str, Any]
    """The searched parameters that count in this trial, by dotted name."""
    status: Status
    reason: str
    """Why it ended before its last epoch; empty if it did not."""
    history: Sequence[Mapping[str, float]] = field(default_factory=list)
    """One row per epoch, as training logs them."""
    seconds: float = 0.0
    """Search time in seconds, over all calls, at this trial's last epoch."""
    ended: float | None = None
    """Unix time in seconds of the last epoch; None without an epoch."""
    own_from: int = 0
    """Number of leading epochs that do not count: PBT copies other trials, trained with other values."""
    drawn: Mapping[str, Any] = field(default_factory=dict)
    """All proposed values: `values`, and those of parameters that do not count in this trial."""

    @property
    def own(self) -> Sequence[Mapping[str, float]]:
        """The epochs trained with the trial's own values."""
        return self.history[self.own_from :]

    def score(self, objective: str) -> float:
        """Objective of the best epoch on validation; -1 if the trial failed or no epoch ended."""
        if self.status == "failed":
            return -1.0
        return max((row_score(row, objective) for row in self.own), default=-1.0)

    def best_row(self, objective: str) -> Mapping[str, float]:
        """The row of the epoch with that score; {} without one."""
        return max(self.own, key=lambda row: row_score(row, objective), default={})


def row_score(row: Mapping[str, float], objective: str) -> float:
    """The objective of one epoch: one metric, or the mean of both."""
    names = METRICS if objective == "both" else (objective,)
    return sum(row[f"valid_{name}"] for name in names) / len(names)


def best_of(trials: Iterable[Trial], objective: str) -> Trial:
    """The trial with the highest score; the earliest of equals.

    Raises:
        TrainingError: all trials failed.
    """
    ranked = sorted(trials, key=lambda trial: (-trial.score(objective), trial.number))
    if not ranked or ranked[0].score(objective) < 0:
        reasons = "; ".join(sorted({trial.reason for trial in ranked})) or "there was none"
        raise TrainingError(f"no trial of the search ended well: {reasons}")
    return ranked[0]


def pareto_front(trials: Iterable[Trial]) -> set[int]:
    """Numbers of the trials that no other trial dominates in both metrics."""
    good = [trial for trial in trials if trial.score("both") >= 0]
    points = {trial.number: tuple(trial.best_row("both")[f"valid_{name}"] for name in METRICS) for trial in good}

    def beaten(point: tuple[float, ...]) -> bool:
        others = (other for other in points.values() if other != point)
        return any(all(a >= b for a, b in zip(other, point, strict=True)) for other in others)

    return {number for number, point in points.items() if not beaten(point)}
