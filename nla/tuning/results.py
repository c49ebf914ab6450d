"""The trials of a search: their epochs, how each ended, which one is best, and all of them as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from nla.config.train import ACCURACIES, METRICS
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
    """The searched parameters that are active in this trial, by dotted name."""
    status: Status
    reason: str
    """Why it ended before its last epoch; empty if it did not."""
    history: Sequence[Mapping[str, float]] = field(default_factory=list)
    """One row per epoch, as training logs them."""
    seconds: float = 0.0
    """Run time of the search in seconds, including earlier runs, at this trial's last epoch."""
    ended_at: float | None = None
    """Unix time in seconds of the last epoch; None without an epoch."""
    best_epoch: int = 0
    """The epoch that counts, from 1; 0 without one. It is the one that training keeps (`train.select`); under PBT the
    last one, because earlier ones were trained with other values."""
    is_final: bool = True
    """Whether training ended by itself, at its last epoch or by `train.patience`, and was not stopped."""
    proposed: Mapping[str, Any] = field(default_factory=dict)
    """All values that the searcher proposed: `values`, and those of parameters that are inactive in this trial."""

    @property
    def best_row(self) -> Mapping[str, float]:
        """The row of the epoch that counts; {} without one."""
        return self.history[self.best_epoch - 1] if self.best_epoch else {}

    def score(self, objective: str) -> float:
        """The objective on validation in the epoch that counts; -1 if the trial failed or no epoch ended."""
        return -1.0 if self.status == "failed" or not self.best_epoch else row_score(self.best_row, objective)


def row_score(row: Mapping[str, float], objective: str) -> float:
    """The objective of one epoch: one metric, or the mean of both accuracies."""
    names = ACCURACIES if objective == "both" else (objective,)
    return sum(row[f"valid_{name}"] for name in names) / len(names)


def best_trial(trials: Iterable[Trial], objective: str) -> Trial:
    """The trial with the highest score; on a tie, the earliest.

    Raises:
        TrainingError: all trials failed.
    """
    ranked = sorted(trials, key=lambda trial: (-trial.score(objective), trial.number))
    if not ranked or ranked[0].score(objective) < 0:
        reasons = "; ".join(sorted({trial.reason for trial in ranked})) or "there was none"
        raise TrainingError(f"no trial of the search succeeded: {reasons}. Change tune.space or the fixed parameters.")
    return ranked[0]


def pareto_front(trials: Iterable[Trial]) -> set[int]:
    """Numbers of the trials that no other trial dominates in both accuracies."""
    good = [trial for trial in trials if trial.score("both") >= 0]
    points = {trial.number: tuple(trial.best_row[f"valid_{name}"] for name in ACCURACIES) for trial in good}

    def is_dominated(point: tuple[float, ...]) -> bool:
        others = (other for other in points.values() if other != point)
        return any(all(a >= b for a, b in zip(other, point, strict=True)) for other in others)

    return {number for number, point in points.items() if not is_dominated(point)}


COLUMNS = [
    ("trial", pa.int32()),
    ("id", pa.string()),
    ("status", pa.string()),
    ("reason", pa.string()),
    ("epochs", pa.int32()),
    ("best_epoch", pa.int32()),
    *((name, pa.float64()) for name in METRICS),
    ("training_seconds", pa.float64()),
    ("seconds", pa.float64()),
    ("chosen", pa.bool_()),
    ("pareto", pa.bool_()),
]
"""Columns before those of the searched parameters.

Metrics are on validation, of `best_epoch`. `training_seconds` counts time inside epochs; `seconds` is the run time of
the search, including earlier runs, at the trial's last epoch.
"""


def trials_table(trials: Sequence[Trial], names: Sequence[str], objective: str) -> pa.Table:
    """One row per trial, with COLUMNS and a column for each searched parameter in `names`.

    Parameters that are inactive in a trial are null; no trial is `chosen` if all failed.
    """
    front = pareto_front(trials)
    chosen = best_trial(trials, objective).number if any(trial.score(objective) >= 0 for trial in trials) else None
    rows = [_row(trial) | {"chosen": trial.number == chosen, "pareto": trial.number in front} for trial in trials]
    table = pa.Table.from_pylist(rows, pa.schema(COLUMNS))
    for name in names:
        table = table.append_column(name, _column([trial.values.get(name) for trial in trials]))
    return table


def _row(trial: Trial) -> dict[str, Any]:
    best = trial.best_row
    return {
        "trial": trial.number,
        "id": trial.id,
        "status": trial.status,
        "reason": trial.reason,
        "epochs": len(trial.history),
        "best_epoch": trial.best_epoch,
        **{name: best.get(f"valid_{name}") for name in METRICS},
        "training_seconds": float(sum(row.get("seconds", 0.0) for row in trial.history)),
        "seconds": trial.seconds,
    }


def _column(values: list[Any]) -> pa.Array:
    """A column of numbers if all values are numbers, else of text."""
    given = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in given):
        return pa.array(values, pa.float64())
    return pa.array([None if value is None else str(value) for value in values], pa.string())
