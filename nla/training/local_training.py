"""Training in this process, without Ray."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from nla.config.ray import RayConfig
from nla.errors import TrainingError
from nla.hardware import cores
from nla.training.callbacks import Callback
from nla.training.checkpoint_store import CheckpointStore, FolderStore
from nla.training.job import Job
from nla.training.loop import TrainingLoop
from nla.training.process_group import ProcessGroup
from nla.training.trainer import Split, Trainer


def train_local(job: Job, split: Split, config: RayConfig, folder: Path, callbacks: Iterable[Callback] = ()) -> Path:
    """Trains `job`, resuming from its checkpoint in `folder`; returns the folder of the last checkpoint.

    Raises:
        TrainingError: `ray.use_gpu` is true, but there is no GPU; and see `Trainer.fit`.
    """
    return run_local(functools.partial(Trainer, job, split), config, folder, callbacks)


def run_local(
    make: Callable[[ProcessGroup, CheckpointStore, Iterable[Callback]], TrainingLoop[Any, Any]],
    config: RayConfig,
    folder: Path,
    callbacks: Iterable[Callback] = (),
) -> Path:
    """Runs the loop that `make` makes, as `train_local` does; returns the folder of the last checkpoint."""
    store = FolderStore(folder)
    torch.set_num_threads(config.cpus_per_worker or cores())
    make(ProcessGroup(local_device(config)), store, callbacks).fit()
    with store.latest() as checkpoint:
        assert checkpoint is not None  # that of the last epoch
        return checkpoint


def local_device(config: RayConfig) -> torch.device:
    """The GPU, or the CPU. Raises TrainingError if `ray.use_gpu` is true, but there is no GPU."""
    available = torch.cuda.is_available()
    if config.use_gpu and not available:
        raise TrainingError("ray.use_gpu is true, but PyTorch finds no GPU. Set it to null or false.")
    return torch.device("cuda" if available and config.use_gpu is not False else "cpu")
