"""What Ray's result of a trial says of it: its values, its epochs, and how it ended."""

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
    """Of the trials of one search."""

    params: Mapping[str, Any]
    """Of a trial that searches nothing."""
    settings: TuneConfig
    clock: Clock
    history: Callable[[Any, str], list[dict[str, float]]]
    """The rows of a trial's epochs, from Ray's result and its id."""
    cut: Collection[str]
    """Ids of trials whose time was over; grows as the search goes on."""

    def trial(self, result: Result, number: int) -> Trial:
        """The trial, under its number in the search."""
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
    """Whether a process or node ended under the trial, and not the trial by itself."""
    return isinstance(result.error, RayError) and not isinstance(result.error, RayTaskError)


def _ended_itself(train: TrainConfig, history: Sequence[Mapping[str, float]]) -> bool:
    metrics = [row[f"valid_{train.select}"] for row in history]
    return train.is_over(len(metrics), metrics.index(max(metrics)) + 1 if metrics else 0)
