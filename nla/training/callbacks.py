"""Who watches a training: the loop tells what happens and cannot tell a bar from a tracker from nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Callback(Protocol):
    """Told by the first worker alone."""

    def step(self, epoch: int, step: int, steps: int, images: int) -> None:
        """A step is done: `step` of `steps` of an epoch counted from 0, with `images` images over all workers."""
        ...

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is done; `row` holds its number from 1, losses, validation metrics, rate and seconds."""
        ...


class NullCallback:
    """Watches nothing."""

    def step(self, epoch: int, step: int, steps: int, images: int) -> None:
        """Does nothing."""

    def epoch(self, row: dict[str, float]) -> None:
        """Does nothing."""


class CallbackList:
    """Tells two observers."""

    def __init__(self, first: Callback, second: Callback) -> None:
        self.first, self.second = first, second

    def step(self, epoch: int, step: int, steps: int, images: int) -> None:
        """Tells both of a step."""
        self.first.step(epoch, step, steps, images)
        self.second.step(epoch, step, steps, images)

    def epoch(self, row: dict[str, float]) -> None:
        """Tells both of an epoch."""
        self.first.epoch(row)
        self.second.epoch(row)


class Recorder(NullCallback):
    """Passes the numbers of each epoch on to whoever records them."""

    def __init__(self, record: Callable[[dict[str, float], int], None]) -> None:
        self.record = record

    def epoch(self, row: dict[str, float]) -> None:
        """Records the row under its epoch."""
        self.record({name: value for name, value in row.items() if name != "epoch"}, int(row["epoch"]))
