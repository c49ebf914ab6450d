"""Writes the table of trials and the figures of a search."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from nla.config.train import METRICS
from nla.files.parquet import write_table
from nla.tuning.trials import Trial, best_of, pareto_front

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
    from nla.pictures import write_figure

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
