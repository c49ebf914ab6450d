"""Population-based training with its own seed; Ray draws from the process's global generators."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from ray.tune.schedulers import PopulationBasedTraining


class SeededPBT(PopulationBasedTraining):
    """PBT that makes the same changes after the same results, whatever else draws random numbers."""

    def __init__(self, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self._state = random.Random(seed).getstate(), np.random.RandomState(seed).get_state()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decides whether the trial continues; may turn it into a perturbed copy of a better one."""
        with self._own_generators():
            return super().on_trial_result(tune_controller, trial, result)

    @contextlib.contextmanager
    def _own_generators(self) -> Iterator[None]:
        others = _swapped(self._state)
        try:
            yield
        finally:
            self._state = _swapped(others)


def _swapped(state: tuple[Any, Any]) -> tuple[Any, Any]:
    """Sets the process's global generators to `state`, and returns their previous state."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002  # the generators that Ray draws from
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    return before
