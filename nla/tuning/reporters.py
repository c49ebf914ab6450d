"""Console output of a search: a live table, and a line for each trial that ends.

Logs a search to MLflow: one parent run, and a nested run for each trial.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.live import Live
from rich.table import Table

from nla.config.base import flatten
from nla.console import console, say
from nla.errors import RegistryError
from nla.tracking.store import PARENT, runs_by_tag
from nla.tracking.tracker import MlflowTracker, Status
from nla.training.callbacks import MetricRecorder
from nla.tuning.callbacks import History
from nla.tuning.results import Trial, row_score
from nla.tuning.space import active, resolved, with_values
from nla.tuning.trial import Template


class TableWatcher:
    """A watcher that draws the table."""

    def __init__(self, total: int, epochs: int, objective: str, budget: Callable[[], float], live: Live) -> None:
        self.total, self.epochs, self.objective, self.budget, self.live = total, epochs, objective, budget, live
        self.began = time.monotonic()
        self.rows: dict[str, Mapping[str, float]] = {}
        self.best: dict[str, float] = {}
        self.running: set[str] = set()
        self.done: set[str] = set()
        self.done_before = 0

    def known(self, trial: str, history: History) -> None:
        """Counts a trial of an earlier call."""
        self.done.add(trial)
        self.done_before += 1
        if history:
            self.rows[trial] = history[-1]
            self.best[trial] = max(row_score(row, self.objective) for row in history)
        self._draw()

    def started(self, trial: str, values: Mapping[str, Any]) -> None:
        """Adds a running trial."""
        self.running.add(trial)
        self.done.discard(trial)
        self._draw()

    def epoch(self, trial: str, row: Mapping[str, float]) -> None:
        """Shows the trial's last epoch."""
        self.rows[trial] = row
        self.best[trial] = max(self.best.get(trial, 0.0), row_score(row, self.objective))
        self._draw()

    def ended(self, trial: str) -> None:
        """Prints a line with the trial's result."""
        self.running.discard(trial)
        self.done.add(trial)
        leader = max(self.best, key=lambda name: self.best[name], default=trial)
        after = int(self.rows[trial]["epoch"]) if trial in self.rows else 0
        say(
            f"trial {len(self.done):3d}/{self._all}  {self.objective} {self.best.get(trial, 0.0):.2%} "
            f"after epoch {after} of {self.epochs}; best so far {self.best.get(leader, 0.0):.2%}; {self._left()}"
        )
        self._draw()

    @property
    def _all(self) -> int:
        """Number of trials; at least those already started, as an earlier call may have asked for more."""
        return max(self.total, len(self.done) + len(self.running))

    def _left(self) -> str:
        here = len(self.done) - self.done_before
        pace = (time.monotonic() - self.began) / here if here > 0 else math.inf
        waiting = self._all - len(self.done)
        minutes = min(pace * waiting if waiting else 0.0, self.budget()) / 60
        if minutes == math.inf:
            return "time left unknown"
        return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"

    def _draw(self) -> None:
        title = f"{len(self.done)} of {self._all} trials, {self._left()}"
        table = Table("running", "epoch", self.objective, title=title)
        for trial in sorted(self.running):
            epoch = int(self.rows[trial]["epoch"]) if trial in self.rows else 0
            table.add_row(trial, f"{epoch}/{self.epochs}", f"{self.best.get(trial, 0.0):.2%}")
        self.live.update(table)


@contextlib.contextmanager
def trial_table(
    total: int, epochs: int, objective: str, budget: Callable[[], float] = lambda: math.inf
) -> Iterator[TableWatcher]:
    """Shows a table of all trials; without a terminal, only the lines. `budget` returns the seconds left."""
    with Live(console=console, refresh_per_second=2, transient=True) as live:
        yield TableWatcher(total, epochs, objective, budget, live)


log = logging.getLogger(__name__)

SWEEP, TRIAL, ENDED, REASON = "nla.sweep", "nla.trial", "nla.trial_status", "nla.trial_reason"
ENDINGS: Mapping[str, Status] = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
"""MLflow's status of each ending; a trial stopped by a scheduler counts as finished, and the tag ENDED tells why."""


class MlflowTrials:
    """A watcher that logs each trial as a nested run; a search that resumes reopens its runs.

    Args:
        fixed: whether a trial keeps its values to the end. PBT changes them, and MLflow's parameters are immutable: the
            searched ones are then logged only when the trial has ended.
    """

    def __init__(
        self, uri: str, parent: str, template: Template, space: Mapping[str, Any], *, fixed: bool = True
    ) -> None:
        self.uri, self.parent, self.template, self.space, self.fixed = uri, parent, template, space, fixed
        self._runs = {name: run.run_id for name, run in runs_by_tag(uri, SWEEP, template.fingerprint, TRIAL).items()}
        self._recorders: dict[str, MetricRecorder] = {}
        self._trackers: dict[str, MlflowTracker] = {}

    def known(self, trial: str, history: History) -> None:
        """Does nothing: the trial's run exists, and `settle` adds what it lacks."""

    def started(self, trial: str, values: Mapping[str, Any]) -> None:
        """Opens the trial's run."""
        with _forgiving(trial):
            self._open(trial, active(values, self.space, self.template.params))

    def epoch(self, trial: str, row: Mapping[str, float]) -> None:
        """Logs an epoch."""
        if trial in self._recorders:
            self._recorders[trial].on_epoch_end(dict(row))

    def ended(self, trial: str) -> None:
        """Closes the trial's run; `settle` logs how it ended."""
        if trial in self._trackers:
            del self._recorders[trial]
            with _forgiving(trial):
                self._trackers.pop(trial).finish()

    def settle(self, trials: Sequence[Trial], objective: str) -> None:
        """Logs how each trial ended, its best epoch, and epochs that a killed driver missed."""
        for trial in trials:
            self.ended(trial.id)  # Ray does not report an end when the time budget is used up
            self._open(trial.id, trial.values, {ENDED: trial.status, REASON: trial.reason}, f"trial-{trial.number:03d}")
            for row in trial.history:
                self._recorders[trial.id].on_epoch_end(dict(row))
            if best := trial.best_row(objective):
                found = {name: best[f"valid_{name}"] for name in ("accuracy", "mean_accuracy")}
                self._trackers[trial.id].log_metrics({"best": found}, int(best["epoch"]))
            self._trackers.pop(trial.id).finish(ENDINGS[trial.status], trial.ended)
            del self._recorders[trial.id]

    def _open(
        self, trial: str, values: Mapping[str, Any], tags: Mapping[str, str] | None = None, name: str | None = None
    ) -> None:
        if trial in self._trackers:
            return
        tracker = MlflowTracker(self.uri, system_metrics=False)
        known = {PARENT: self.parent, SWEEP: self.template.fingerprint, TRIAL: trial, **(tags or {})}
        named = known if name is None else {**known, "mlflow.runName": name}
        params = with_values(self.template.params, values)
        shown = flatten(resolved(params))
        if not self.fixed and name is None:  # PBT may change them, and with them a null that follows one of them
            given = flatten(params)
            shown = {key: shown[key] for key in shown if not self._is_searched(key) and given.get(key) is not None}
        self._runs[trial] = tracker.start(name or f"trial-{trial}", shown, named, self._runs.get(trial))
        self._trackers[trial], self._recorders[trial] = tracker, MetricRecorder(tracker.log_epoch)

    def _is_searched(self, key: str) -> bool:
        """Whether a parameter, or an element of it, is searched."""
        return any(name == key or name.startswith(f"{key}.") for name in self.space)


@contextlib.contextmanager
def _forgiving(trial: str) -> Iterator[None]:
    """Logs MLflow errors instead of raising: MLflow may be down for a while, and `settle` logs everything again.

    An exception would make Ray Tune fail the trial.
    """
    try:
        yield
    except RegistryError as error:
        log.warning("MLflow cannot be told of trial %s now: %s", trial, error)
