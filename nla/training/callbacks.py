"""Callbacks: how progress bars and trackers follow a training run, without the loop knowing of either."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

log = logging.getLogger(__name__)


class Callback:
    """Base of all callbacks, which does nothing. Only the main process of a run calls it."""

    def on_step_end(self, epoch: int, step: int, steps: int, images: int) -> None:
        """Called after each step.

        Args:
            epoch: counted from 0.
            step: counted from 1, so that the last one equals `steps`.
            steps: number of steps of an epoch.
            images: global batch size.
        """

    def on_epoch_end(self, row: dict[str, float]) -> None:
        """Called after each epoch, once its checkpoint is saved.

        Args:
            row: `epoch` counted from 1, validation metrics, `train_loss`, `lr`, `images_per_second`, `seconds`.
        """

    def on_warning(self, text: str) -> None:
        """Called with a sentence for the user that is not about an epoch, such as that a checkpoint is damaged."""


class CallbackList(Callback):
    """Calls several callbacks, in their order."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self.callbacks = tuple(callbacks)

    def on_step_end(self, epoch: int, step: int, steps: int, images: int) -> None:
        """Passes the step on."""
        for callback in self.callbacks:
            callback.on_step_end(epoch, step, steps, images)

    def on_epoch_end(self, row: dict[str, float]) -> None:
        """Passes the epoch on."""
        for callback in self.callbacks:
            callback.on_epoch_end(row)

    def on_warning(self, text: str) -> None:
        """Logs the warning, and passes it on."""
        log.warning(text)
        for callback in self.callbacks:
            callback.on_warning(text)


class MetricRecorder(Callback):
    """Records the metrics of each epoch, for example in MLflow.

    Args:
        record: called with the metrics and the epoch, counted from 1.
    """

    def __init__(self, record: Callable[[dict[str, float], int], None]) -> None:
        self.record = record

    def on_epoch_end(self, row: dict[str, float]) -> None:
        """Records the row under its epoch."""
        self.record({name: value for name, value in row.items() if name != "epoch"}, int(row["epoch"]))
