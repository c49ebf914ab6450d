"""Population-based training with a seed of its own: Ray draws from the generators of the whole process."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from ray.tune.schedulers import PopulationBasedTraining


class SeededPBT(PopulationBasedTraining):
    """The same changes after the same results, whatever else draws numbers."""

    def __init__(self, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self._state = random.Random(seed).getstate(), np.random.RandomState(seed).get_state()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Says whether the trial goes on; here a trial may become a changed copy of a better one."""
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
    """Puts the process's generators into that state; gives the one that they were in."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002  # those that Ray draws from
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    return before
