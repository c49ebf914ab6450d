"""Measures how long a step and the end of an epoch of each method take, in turns, so that all meet the same machine.

A loader makes batches ahead in a thread, which rests while other methods have their turn. So the first steps of a turn,
whose batches are waiting, are not counted.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch

from nla.data.loader import PREFETCH
from nla.errors import TrainingError
from nla.study.times import MethodTime
from nla.training.checkpoint_store import FolderStore
from nla.training.job import Job
from nla.training.optim import set_lr
from nla.training.process_group import ProcessGroup
from nla.training.reproducibility import reproducible
from nla.training.trainer import Split, Trainer

STEPS, TURN, ENDS = 120, 12, 3
"""Measured steps of each method, those of one turn, and measured ends of an epoch."""
SETTLE = PREFETCH + 1
"""Steps of a turn that are not measured."""
BUSY, WATCH = 10.0, 3.0
"""Largest load of the processor, in percent, at which it counts as idle, and the seconds over which it is measured."""


def require_idle() -> None:
    """Raises TrainingError if this process has another niceness than 0, or the processor has other work."""
    if (niceness := os.getpriority(os.PRIO_PROCESS, 0)) != 0:
        raise TrainingError(f"the niceness must be 0, as that of trainings (got {niceness}). Run it without `nice`.")
    if (load := psutil.cpu_percent(WATCH)) > BUSY:
        raise TrainingError(f"the processor must be idle (got a load of {load:.0f} %). End what else is running.")


def measure(
    jobs: Mapping[str, Job],
    split: Split,
    device: torch.device,
    settings: Mapping[str, Mapping[str, Any]],
    steps: int | None = None,
    ends: int = ENDS,
) -> dict[str, MethodTime]:
    """Method -> its times on this data.

    Args:
        settings: method -> the parameters on which its time depends, which are recorded.
        steps: measured steps of each method, rounded up to whole turns; None: STEPS.
        ends: measured ends of an epoch of each method.
    """
    group = ProcessGroup(device)
    with ExitStack() as stack:
        stack.enter_context(reproducible(device))
        timed = {
            name: stack.enter_context(_Timed.of(Trainer(job, split, group, FolderStore(Path("unused")))))
            for name, job in jobs.items()
        }
        for _ in range(ends):
            for each in timed.values():
                each.end_epoch()
        for turn in range(-(-(steps or STEPS) // TURN)):
            order = list(timed.values())
            for each in order if turn % 2 else reversed(order):  # so that no method always follows the same one
                each.take_turn(TURN)
        return {name: each.result(settings[name]) for name, each in timed.items()}


class _Timed:
    """A trainer in the second half of its training, with what was measured of it."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.epoch = trainer, trainer.config.epochs // 2
        self.steps, self.ends = list[float](), list[float]()
        self.stream: Generator[Any] | None = None
        self.numbers = itertools.count(self.epoch * trainer.steps)

    @classmethod
    @contextlib.contextmanager
    def of(cls, trainer: Trainer) -> Iterator[_Timed]:
        """One whose loader ends with the block."""
        timed = cls(trainer)
        try:
            yield timed
        finally:
            if timed.stream is not None:
                timed.stream.close()

    def take_turn(self, steps: int) -> None:
        """Trains, and measures all but the first steps."""
        self.trainer.start_epoch(self.epoch)
        for number in range(SETTLE + steps):
            started = time.perf_counter()
            self._step()
            if number >= SETTLE:
                self.steps.append(time.perf_counter() - started)

    def _step(self) -> None:
        batch = next(self.stream, None) if self.stream is not None else None
        if batch is None:
            self.stream = self.trainer.minibatches(self.epoch)
            batch = next(self.stream)
        schedule, steps = self.trainer.schedule, self.trainer.steps
        set_lr(self.trainer.optimizer, schedule(next(self.numbers) % (steps * self.trainer.config.epochs)))
        result = self.trainer.train_step(batch)
        self.trainer.positions.record(batch.index_N, result.positions_N2)
        float(result.loss)  # waits for the device

    def end_epoch(self) -> None:
        """Does what follows the steps of an epoch."""
        self.trainer.start_epoch(self.epoch)
        started = time.perf_counter()
        self.trainer.positions.end_epoch(self.trainer.group)
        self.trainer.settle_batchnorm(self.epoch)
        self.trainer.end_method_epoch(self.epoch)
        self.trainer.validate()
        self.ends.append(time.perf_counter() - started)

    def result(self, setting: Mapping[str, Any]) -> MethodTime:
        """The medians."""
        low, high = np.percentile(self.steps, [25, 75]).tolist()
        return MethodTime(
            step=median(self.steps),
            quartiles=(low, high),
            end=median(self.ends),
            steps=self.trainer.steps,
            measured=len(self.steps),
            setting=dict(setting),
        )
