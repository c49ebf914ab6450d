"""Searchers that limit concurrent trials by the current call's setting; Ray's own would keep the first call's."""

from __future__ import annotations

from typing import Any, ClassVar

from ray.tune.search import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch

from nla.tuning.trial import FAILED


class Turns:
    """Limit for this process; Ray pickles searchers with the experiment, so it cannot live in them."""

    limit: ClassVar[int | None] = None
    """Maximum number of concurrent trials; None for as many as fit."""


class RandomTurns(BasicVariantGenerator):
    """Random draws and grids."""

    def next_trial(self) -> Any:
        """The next trial; None if it has to wait."""
        self.max_concurrent = Turns.limit or 0
        return super().next_trial()  # type: ignore[no-untyped-call]


class OptunaTurns(OptunaSearch):
    """Optuna's samplers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._under_way: set[str] = set()
        self._best: dict[str, dict[str, Any]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Values of the next trial; None if it has to wait."""
        if Turns.limit is not None and len(self._under_way) >= Turns.limit:
            return None
        self._under_way.add(trial_id)
        return super().suggest(trial_id)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keeps the best epoch, by which a trial is judged; one that failed is worth nothing, whatever it had reached.

        Samplers are told only when a trial ends: Optuna would warn about an epoch that is repeated.
        """
        before = self._best.get(trial_id)
        if before is None or FAILED in result or self._reached(result) > self._reached(before):
            self._best[trial_id] = result

    def _reached(self, result: dict[str, Any]) -> float:
        metrics = self._metric if isinstance(self._metric, list) else [self._metric]
        return float(sum(result[str(name)] for name in metrics))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells the sampler the best epoch of a trial that has ended."""
        self._under_way.discard(trial_id)
        super().on_trial_complete(trial_id, self._best.pop(trial_id, result), error)
