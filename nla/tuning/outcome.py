"""Turns Ray's result of a trial into a `Trial`: its values, its epochs, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.tune import Result

from nla.config.base import section
from nla.config.train import TrainConfig
from nla.config.tune import TuneConfig
from nla.tuning.clock import Clock
from nla.tuning.space import active, with_values
from nla.tuning.trial import FAILED
from nla.tuning.trials import Status, Trial


@dataclass(frozen=True)
class Outcomes:
    """Builds the `Trial` of each of Ray's results of one search."""

    params: Mapping[str, Any]
    """Sections of params.yaml before a trial's values are merged in."""
    settings: TuneConfig
    clock: Clock
    history: Callable[[Any, str], list[dict[str, float]]]
    """Returns the rows of a trial's epochs, given Ray's result and the trial's id."""
    cut: Collection[str]
    """Ids of trials that the time budget cut short; grows while the search runs."""

    def trial(self, result: Result, number: int) -> Trial:
        """The trial that `result` belongs to, with its number in the search."""
        metrics, drawn, name = result.metrics or {}, result.config or {}, Path(result.path).name.split("-", 1)[1]
        history = self.history(result, name)
        values = active(drawn, self.settings.distributions, self.params)
        status, reason = self._ending(result, name, values, history)
        ended = float(metrics["timestamp"]) if "timestamp" in metrics else None
        seconds = 0.0 if ended is None else self.clock.spent(ended)
        copied = len(history) - 1 if self.settings.scheduler == "pbt" and history else 0
        return Trial(number, name, values, status, reason, history, seconds, ended, copied, drawn)

    def _ending(
        self, result: Result, name: str, values: Mapping[str, Any], history: Sequence[Mapping[str, float]]
    ) -> tuple[Status, str]:
        failure = (result.metrics or {}).get(FAILED)
        if result.error is not None:
            return "failed", str(result.error).strip().splitlines()[-1]
        if failure is not None:
            return "failed", str(failure)
        if len(history) >= self.settings.epochs:
            return "finished", ""
        if _ended_itself(section(TrainConfig, with_values(self.params, values)), history):
            stopper = "patience"
        else:
            stopper = "time budget" if name in self.cut else self.settings.scheduler
        return "stopped", f"{stopper}, after epoch {len(history)} of {self.settings.epochs}"


def is_lost(result: Result) -> bool:
    """Whether the trial ended because a process or node was lost, rather than by its own error."""
    return isinstance(result.error, RayError) and not isinstance(result.error, RayTaskError)


def _ended_itself(train: TrainConfig, history: Sequence[Mapping[str, float]]) -> bool:
    metrics = [row[f"valid_{train.select}"] for row in history]
    return train.is_over(len(metrics), metrics.index(max(metrics)) + 1 if metrics else 0)
