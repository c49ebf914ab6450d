"""Callbacks of a search: Ray Tune's events, passed on to whatever shows or logs the trials."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Protocol

from ray.tune import Callback

from nla.training.epoch_report import VALID
from nla.tuning.storage import Clock, UnreadableStateError
from nla.tuning.trial import FAILED


class TrialCallback(Protocol):
    """Interface of a callback; trials are named by Ray's id."""

    def on_trial_restored(self, trial: str, epochs: int, score: float) -> None:
        """A trial ended in an earlier run, after so many epochs; none if it failed."""
        ...

    def on_trial_start(self, trial: str, values: Mapping[str, Any]) -> None:
        """A trial starts, or resumes."""
        ...

    def on_epoch_end(self, trial: str, row: Mapping[str, float], score: float) -> None:
        """A trial has finished an epoch; `row` is what training logs, `score` the objective that it has reached."""
        ...

    def on_trial_end(self, trial: str, failed: bool = False) -> None:
        """A trial no longer runs, for whatever reason."""
        ...


class SearchMonitor(Callback):
    """Passes Ray Tune's events on to callbacks, and stops the search when its time budget is used up.

    Args:
        callbacks: called in this order.
        clock: run time of the search.
        metrics: names in Ray's results whose mean is the score.
    """

    current: SearchMonitor | None = None
    """The monitor of this process."""

    def __init__(self, callbacks: Sequence[TrialCallback], clock: Clock, metrics: Sequence[str]) -> None:
        self.callbacks, self.clock, self.metrics = callbacks, clock, metrics
        self.out_of_time: set[str] = set()
        """Ids of trials that the time budget stopped."""
        self.is_resuming = False
        """Whether Ray is expected to restore trials."""
        self._is_first_step = True
        self._ended: set[str] = set()
        SearchMonitor.current = self

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray pickles its callbacks with the search, but ours belong to one process: a resumed search uses the monitor
        # of the process that resumes it.
        return _current_monitor, ()

    def setup(self, *args: Any, **info: Any) -> None:
        """Ray starts, or resumes."""
        self._is_first_step = True

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Reports trials of earlier runs.

        Raises:
            UnreadableStateError: Ray could not read the state of the search, and silently began a new one.
        """
        if self._is_first_step and self.is_resuming and not trials:
            raise UnreadableStateError
        self._report_restored(trials)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Once the time budget is used up, makes Ray save all trials and stop; with a larger budget they resume."""
        self.clock.tick()
        if not self.clock.left():
            self.out_of_time |= {trial.trial_id for trial in trials if not trial.is_finished()}
            signal.raise_signal(signal.SIGUSR1)  # Ray Tune's signal for an orderly stop

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Ray ends, possibly without a step if there was nothing left to do."""
        self._report_restored(trials)
        self.clock.write()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial starts."""
        for callback in self.callbacks:
            callback.on_trial_start(trial.trial_id, trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial reports an epoch, or that it failed."""
        if FAILED not in result:
            row = {name: value for name, value in result.items() if _is_epoch_column(name)}
            for callback in self.callbacks:
                callback.on_epoch_end(trial.trial_id, row, self._score(result))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended, by itself or by a scheduler."""
        self._end(trial, failed=FAILED in trial.last_result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Ray gives up on a trial."""
        self._end(trial, failed=True)

    def _end(self, trial: Any, failed: bool) -> None:
        self._ended.add(trial.trial_id)
        for callback in self.callbacks:
            callback.on_trial_end(trial.trial_id, failed)

    def _report_restored(self, trials: list[Any]) -> None:
        """Reports, once, the trials that had ended before Ray's first step."""
        if not self._is_first_step:
            return
        self._is_first_step = False
        for trial in trials:
            if trial.is_finished() and trial.trial_id not in self._ended:
                self._ended.add(trial.trial_id)
                last = trial.last_result
                failed = trial.status == trial.ERROR or FAILED in last
                epochs, score = (0, 0.0) if failed else (int(last["epoch"]), self._score(last))
                for callback in self.callbacks:
                    callback.on_trial_restored(trial.trial_id, epochs, score)

    def _score(self, result: Mapping[str, Any]) -> float:
        return fmean(result[name] for name in self.metrics)


def _current_monitor() -> SearchMonitor | None:
    return SearchMonitor.current


def _is_epoch_column(name: str) -> bool:
    """Whether a key of Ray's result is a column of training's log; Ray adds many others."""
    return name in ("epoch", "lr", "images_per_second", "seconds", "train_loss") or name.startswith(VALID)
