"""Watchers of a search: the driver tells them of each trial that starts, ends an epoch, or ends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ray.tune import Callback

from nla.tuning.storage import Clock, Lost
from nla.tuning.trial import FAILED

History = Sequence[Mapping[str, float]]


class Watcher(Protocol):
    """Interface of a watcher; trials are named by Ray's id."""

    def known(self, trial: str, history: History) -> None:
        """A trial that ended in an earlier call, with these epochs; none if it failed."""
        ...

    def started(self, trial: str, values: Mapping[str, Any]) -> None:
        """A trial starts, or resumes."""
        ...

    def epoch(self, trial: str, row: Mapping[str, float]) -> None:
        """A trial has ended an epoch; `row` as training logs it."""
        ...

    def ended(self, trial: str) -> None:
        """A trial no longer runs, for whatever reason."""
        ...


class Hooks(Callback):
    """Passes Ray Tune's callbacks on to watchers, and ends a search when its time budget is used up.

    Args:
        history: returns the rows of a trial's epochs, given Ray's trial and its id.
    """

    present: Hooks | None = None

    def __init__(self, watchers: Sequence[Watcher], clock: Clock, history: Callable[[Any, str], History]) -> None:
        self.watchers, self.clock, self.history = watchers, clock, history
        self.cut: set[str] = set()
        """Ids of trials that the time budget cut short."""
        self.resumes = False
        """Whether Ray should resume trials that it has saved."""
        self._is_first_step = True
        self._ended: set[str] = set()
        Hooks.present = self

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray pickles callbacks with the search, and watchers belong to one process: a resumed search uses this
        # process's.
        return _present, ()

    def setup(self, *args: Any, **info: Any) -> None:
        """Ray starts, or resumes."""
        self._is_first_step = True

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tells watchers of earlier trials. Raises Lost if Ray, unable to read the search, silently began a new one."""
        if self._is_first_step and self.resumes and not trials:
            raise Lost
        self._tell_known(trials)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Makes Ray save all trials and stop once the time budget is used up; with more time they resume."""
        self.clock.tick()
        if not self.clock.left():
            self.cut |= {trial.trial_id for trial in trials if not trial.is_finished()}
            signal.raise_signal(signal.SIGUSR1)  # makes Ray stop in an orderly way

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Ray ends; possibly at once, if nothing was left to do."""
        self._tell_known(trials)
        self.clock.write()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial starts."""
        for watcher in self.watchers:
            watcher.started(trial.trial_id, trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial reports."""
        if FAILED not in result:
            row = {name: value for name, value in result.items() if _is_of_training(name)}
            for watcher in self.watchers:
                watcher.epoch(trial.trial_id, row)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended, by itself or by a scheduler."""
        self._end(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Ray gives up a trial."""
        self._end(trial)

    def _end(self, trial: Any) -> None:
        self._ended.add(trial.trial_id)
        for watcher in self.watchers:
            watcher.ended(trial.trial_id)

    def _tell_known(self, trials: list[Any]) -> None:
        """Tells watchers of trials that had ended before Ray's first step."""
        if not self._is_first_step:
            return
        self._is_first_step = False
        for trial in trials:
            if trial.is_finished() and trial.trial_id not in self._ended:
                self._ended.add(trial.trial_id)
                failed = trial.status == trial.ERROR or FAILED in trial.last_result
                history = [] if failed else self.history(trial, trial.trial_id)
                for watcher in self.watchers:
                    watcher.known(trial.trial_id, history)


def _present() -> Hooks | None:
    return Hooks.present


def _is_of_training(name: str) -> bool:
    return name in ("epoch", "lr", "images_per_second", "seconds", "train_loss") or name.startswith("valid_")
