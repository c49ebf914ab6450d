"""The trials of a search: their epochs, how each ended, and which one is best.

Writes the table of trials and the figures of a search.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from nla.config.train import METRICS
from nla.errors import TrainingError
from nla.io import write_table

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


SCHEMA = [
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

Metrics are on validation, of the best epoch. `training_seconds` counts time inside epochs; `seconds` is the run time
of the search, over all calls, at the trial's last epoch.
"""


def trials_table(trials: Sequence[Trial], names: Sequence[str], objective: str) -> pa.Table:
    """One row per trial.

    Parameters that do not count in a trial are null; no trial is `chosen` if all failed.
    """
    front = pareto_front(trials)
    chosen = best_of(trials, objective).number if any(trial.score(objective) >= 0 for trial in trials) else None
    rows = [
        _row(trial, objective) | {"chosen": trial.number == chosen, "pareto": trial.number in front} for trial in trials
    ]
    table = pa.Table.from_pylist(rows, pa.schema(SCHEMA))
    for name in names:
        table = table.append_column(name, _column([trial.values.get(name) for trial in trials]))
    return table


def write_report(table: pa.Table, pictures: Mapping[str, Any], trials: Path, figures: Path) -> None:
    """Writes the table and the figures; old figures are removed first."""
    from nla.plotting import write_figure

    shutil.rmtree(figures, ignore_errors=True)
    figures.mkdir(parents=True)
    for name, figure in pictures.items():
        write_figure(figure, figures / f"{name}.png")
    write_table(trials, table)


def _row(trial: Trial, objective: str) -> dict[str, Any]:
    best = trial.best_row(objective)
    return {
        "trial": trial.number,
        "id": trial.id,
        "status": trial.status,
        "reason": trial.reason,
        "epochs": len(trial.history),
        "best_epoch": int(best.get("epoch", 0)),
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
