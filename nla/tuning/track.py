"""Logs a search to MLflow: one parent run, and a nested run for each trial."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nla.config.base import flatten
from nla.errors import RegistryError
from nla.tracking.store import PARENT, runs_by_tag
from nla.tracking.tracker import MlflowTracker, Status
from nla.training.observer import Recorder
from nla.tuning.space import active, with_values
from nla.tuning.trial import Template
from nla.tuning.trials import Trial
from nla.tuning.watch import History

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
        self._recorders: dict[str, Recorder] = {}
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
            self._recorders[trial].epoch(dict(row))

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
                self._recorders[trial.id].epoch(dict(row))
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
        shown = flatten(with_values(self.template.params, values))
        if not self.fixed and name is None:
            shown = {key: value for key, value in shown.items() if not self._is_searched(key)}
        self._runs[trial] = tracker.start(name or f"trial-{trial}", shown, named, self._runs.get(trial))
        self._trackers[trial], self._recorders[trial] = tracker, Recorder(tracker.log_epoch)

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
