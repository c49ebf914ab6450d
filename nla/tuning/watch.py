"""Who watches a search: told by the driver of each trial that starts, ends an epoch, or ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ray.tune import Callback

from nla.tuning.trial import FAILED


class Watcher(Protocol):
    """Told of trials by Ray's id."""

    def started(self, trial: str, values: Mapping[str, Any]) -> None:
        """It starts, or goes on after a stop."""
        ...

    def epoch(self, trial: str, row: Mapping[str, float]) -> None:
        """It has ended an epoch; `row` as training has it."""
        ...

    def ended(self, trial: str) -> None:
        """It runs no more, whatever the reason."""
        ...


class Hooks(Callback):
    """Ray Tune's callbacks, passed on to watchers."""

    present: Hooks | None = None

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self.watchers = watchers
        Hooks.present = self

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray keeps the callbacks with a search, and a watcher is of one process: a search that goes on has this one's.
        return _present, ()

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
        for watcher in self.watchers:
            watcher.ended(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial is given up."""
        for watcher in self.watchers:
            watcher.ended(trial.trial_id)


def _present() -> Hooks | None:
    return Hooks.present


def _is_of_training(name: str) -> bool:
    return name in ("epoch", "lr", "images_per_second", "seconds", "train_loss") or name.startswith("valid_")
