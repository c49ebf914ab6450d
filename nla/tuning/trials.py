"""What is known of the trials of a search: their epochs, how each ended, and which one is best."""

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
    """From 0; the first has the values that are published, or set in params.yaml."""
    id: str
    """Ray's."""
    values: Mapping[str, Any]
    """The searched parameters that count in it, by dotted names."""
    status: Status
    reason: str
    """Why it ended before its last epoch; empty where it did not."""
    history: Sequence[Mapping[str, float]] = field(default_factory=list)
    """One row an epoch, as training has them."""
    seconds: float = 0.0
    """That the search had run for, over all calls, at the last epoch of this trial."""
    ended: float | None = None
    """Unix time in seconds of the last epoch; None where there is none."""
    own_from: int = 0
    """Epochs before that were trained with other values: PBT copies them."""
    drawn: Mapping[str, Any] = field(default_factory=dict)
    """What was proposed for it: `values`, and those of parameters that do not count in it."""

    @property
    def own(self) -> Sequence[Mapping[str, float]]:
        """The epochs that say what the values are worth."""
        return self.history[self.own_from :]

    def score(self, objective: str) -> float:
        """The best epoch's, on validation; -1 where no epoch ended or the trial failed."""
        if self.status == "failed":
            return -1.0
        return max((row_score(row, objective) for row in self.own), default=-1.0)

    def best_row(self, objective: str) -> Mapping[str, float]:
        """The epoch of `score`; empty where there is none."""
        return max(self.own, key=lambda row: row_score(row, objective), default={})


def row_score(row: Mapping[str, float], objective: str) -> float:
    """The objective of one epoch: a metric, or the mean of both."""
    names = METRICS if objective == "both" else (objective,)
    return sum(row[f"valid_{name}"] for name in names) / len(names)


def best_of(trials: Iterable[Trial], objective: str) -> Trial:
    """The trial with the highest score, the earliest of equals. Raises TrainingError where all failed."""
    ranked = sorted(trials, key=lambda trial: (-trial.score(objective), trial.number))
    if not ranked or ranked[0].score(objective) < 0:
        reasons = "; ".join(sorted({trial.reason for trial in ranked})) or "there was none"
        raise TrainingError(f"no trial of the search ended well: {reasons}")
    return ranked[0]


def pareto_front(trials: Iterable[Trial]) -> set[int]:
    """Numbers of the trials that no other one beats in a metric without losing in the other."""
    good = [trial for trial in trials if trial.score("both") >= 0]
    points = {trial.number: tuple(trial.best_row("both")[f"valid_{name}"] for name in METRICS) for trial in good}

    def beaten(point: tuple[float, ...]) -> bool:
        others = (other for other in points.values() if other != point)
        return any(all(a >= b for a, b in zip(other, point, strict=True)) for other in others)

    return {number for number, point in points.items() if not beaten(point)}
