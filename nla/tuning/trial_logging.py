"""Progress reporting for a search: a live table in the console, and a nested MLflow run for each trial."""

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
from nla.config.train import METRICS
from nla.console import console, say
from nla.errors import TrackingError
from nla.tracking.store import PARENT, runs_by_tag
from nla.tracking.tracker import MlflowTracker, Status
from nla.training.callbacks import MetricRecorder
from nla.tuning.results import Trial
from nla.tuning.space import active, resolved, with_values
from nla.tuning.trial import Template

log = logging.getLogger(__name__)

SWEEP_TAG, TRIAL_TAG, STATUS_TAG, REASON_TAG = "nla.sweep", "nla.trial", "nla.trial_status", "nla.trial_reason"
MLFLOW_STATUS: Mapping[str, Status] = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
"""MLflow run status for each trial outcome; a trial stopped by a scheduler counts as finished, and STATUS_TAG tells the
two apart."""
OBJECTIVE_WORDS = {
    "accuracy": "accuracy",
    "mean_accuracy": "mean accuracy",
    "macro_f1": "macro-F1",
    "both": "mean of both accuracies",
}


@contextlib.contextmanager
def progress_table(
    total: int, epochs: int, objective: str, budget: Callable[[], float] = lambda: math.inf
) -> Iterator[ProgressTable]:
    """Shows a table of the running trials; without a terminal, prints one line per finished trial.

    Args:
        total: number of trials.
        epochs: maximum epochs per trial.
        objective: validation metric shown.
        budget: returns the seconds left of the time budget.
    """
    with Live(console=console, refresh_per_second=2, transient=True) as live:
        yield ProgressTable(total, epochs, objective, budget, live)


class ProgressTable:
    """The callback that draws the table."""

    def __init__(self, total: int, epochs: int, objective: str, budget: Callable[[], float], live: Live) -> None:
        self.total, self.epochs, self.objective, self.budget, self.live = total, epochs, objective, budget, live
        self.metric = OBJECTIVE_WORDS[objective]
        self.started_at = time.monotonic()
        self.epoch: dict[str, int] = {}
        self.score: dict[str, float] = {}
        self.running: set[str] = set()
        self.done: set[str] = set()
        self.num_restored = 0

    def on_trial_restored(self, trial: str, epochs: int, score: float) -> None:
        """Counts a trial restored from an earlier run."""
        self.done.add(trial)
        self.num_restored += 1
        if epochs:
            self.epoch[trial], self.score[trial] = epochs, score
        self._draw()

    def on_trial_start(self, trial: str, values: Mapping[str, Any]) -> None:
        """Adds a running trial."""
        self.running.add(trial)
        self.done.discard(trial)
        self._draw()

    def on_epoch_end(self, trial: str, row: Mapping[str, float], score: float) -> None:
        """Shows the trial's latest epoch."""
        self.epoch[trial], self.score[trial] = int(row["epoch"]), score
        self._draw()

    def on_trial_end(self, trial: str, failed: bool = False) -> None:
        """Prints a line with the trial's result."""
        self.running.discard(trial)
        self.done.add(trial)
        if failed:
            self.score.pop(trial, None)  # a failed trial is never the best
        best = f"best so far {max(self.score.values()):.2%}; " if self.score else ""
        say(f"trial {len(self.done):3d}/{self._total}  {self._outcome(trial)}; {best}{self._time_left()}")
        self._draw()

    def _outcome(self, trial: str) -> str:
        if trial not in self.score:
            return "failed"
        return f"{self.metric} {self.score[trial]:.2%}, ran {self.epoch[trial]} of {self.epochs} epochs"

    @property
    def _total(self) -> int:
        """Number of trials, never fewer than already started: an earlier run may have requested more."""
        return max(self.total, len(self.done) + len(self.running))

    def _time_left(self) -> str:
        ended = len(self.done) - self.num_restored
        seconds_per_trial = (time.monotonic() - self.started_at) / ended if ended > 0 else math.inf
        remaining = self._total - len(self.done)
        minutes = min(seconds_per_trial * remaining if remaining else 0.0, self.budget()) / 60
        if minutes == math.inf:
            return "time left unknown"
        return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"

    def _draw(self) -> None:
        title = f"{len(self.done)} of {self._total} trials, {self._time_left()}"
        table = Table("running", "epoch", self.metric, title=title)
        for trial in sorted(self.running):
            score = f"{self.score[trial]:.2%}" if trial in self.score else "-"
            table.add_row(trial, f"{self.epoch.get(trial, 0)}/{self.epochs}", score)
        self.live.update(table)


class MlflowTrialLogger:
    """The callback that logs each trial as a nested run; a search that resumes reopens its runs.

    Args:
        uri: MLflow store.
        parent: id of the search's run.
        template: what all trials share.
        space: the searched parameters, by dotted name.
        fixed: whether hyperparameters stay constant; False for PBT, which changes them during a trial. Since MLflow's
            parameters are immutable, the searched ones are then logged only when the trial has ended.
    """

    def __init__(
        self, uri: str, parent: str, template: Template, space: Mapping[str, Any], *, fixed: bool = True
    ) -> None:
        self.uri, self.parent, self.template, self.space, self.fixed = uri, parent, template, space, fixed
        runs = runs_by_tag(uri, SWEEP_TAG, template.fingerprint, TRIAL_TAG)
        self._run_ids = {trial: run.run_id for trial, run in runs.items()}
        self._recorders: dict[str, MetricRecorder] = {}
        self._trackers: dict[str, MlflowTracker] = {}

    def on_trial_restored(self, trial: str, epochs: int, score: float) -> None:
        """Does nothing: the trial's run exists, and `finalize` fills in anything missing."""

    def on_trial_start(self, trial: str, values: Mapping[str, Any]) -> None:
        """Opens the trial's run."""
        with _tolerate_mlflow_errors(trial):
            self._open(trial, active(values, self.space, self.template.params))

    def on_epoch_end(self, trial: str, row: Mapping[str, float], score: float) -> None:
        """Logs an epoch."""
        if trial in self._recorders:
            self._recorders[trial].on_epoch_end(dict(row))

    def on_trial_end(self, trial: str, failed: bool = False) -> None:
        """Closes the trial's run; `finalize` logs how it ended."""
        if trial in self._trackers:
            del self._recorders[trial]
            with _tolerate_mlflow_errors(trial):
                self._trackers.pop(trial).finish()

    def finalize(self, trials: Sequence[Trial]) -> None:
        """Logs how each trial ended, its metrics, and epochs that a killed driver did not log."""
        for trial in trials:
            self.on_trial_end(trial.id)  # Ray sends no end event when the time budget is used up
            tags = {STATUS_TAG: trial.status, REASON_TAG: trial.reason}
            self._open(trial.id, trial.values, tags, f"trial-{trial.number:03d}")
            for row in trial.history:
                self._recorders[trial.id].on_epoch_end(dict(row))
            if best := trial.best_row:
                metrics = {name: best[f"valid_{name}"] for name in METRICS}
                self._trackers[trial.id].log_metrics({"best": metrics}, trial.best_epoch)
            self._trackers.pop(trial.id).finish(MLFLOW_STATUS[trial.status], trial.ended_at)
            del self._recorders[trial.id]

    def _open(
        self, trial: str, values: Mapping[str, Any], tags: Mapping[str, str] | None = None, name: str | None = None
    ) -> None:
        """Opens the run of a trial; `name` is passed by `finalize`, when the final values are known."""
        if trial in self._trackers:
            return
        tracker = MlflowTracker(self.uri, system_metrics=False)
        all_tags = {PARENT: self.parent, SWEEP_TAG: self.template.fingerprint, TRIAL_TAG: trial, **(tags or {})}
        if name is not None:
            all_tags["mlflow.runName"] = name
        params = with_values(self.template.params, values)
        shown = flatten(resolved(params))
        if not self.fixed and name is None:  # PBT may change them and defaults derived from them
            given = flatten(params)
            shown = {key: shown[key] for key in shown if not self._is_searched(key) and given.get(key) is not None}
        self._run_ids[trial] = tracker.start(name or f"trial-{trial}", shown, all_tags, self._run_ids.get(trial))
        self._trackers[trial], self._recorders[trial] = tracker, MetricRecorder(tracker.log_epoch)

    def _is_searched(self, key: str) -> bool:
        """Whether a parameter, or an element of it, is searched."""
        return any(name == key or name.startswith(f"{key}.") for name in self.space)


@contextlib.contextmanager
def _tolerate_mlflow_errors(trial: str) -> Iterator[None]:
    """Logs MLflow errors instead of raising: MLflow may be down for a while, and `finalize` logs everything again.

    An exception would make Ray Tune fail the trial.
    """
    try:
        yield
    except TrackingError as error:
        log.warning("could not log trial %s to MLflow; will retry at the end of the search: %s", trial, error)
