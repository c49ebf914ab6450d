"""The training loop in this very process, without Ray: it starts at once, and a debugger stops in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from nla.config.ray import RayConfig
from nla.errors import TrainingError
from nla.training.job import Job
from nla.training.loop import Split, train
from nla.training.observer import Observer
from nla.training.store import FolderStore
from nla.training.workers import Workers


@contextlib.contextmanager
def train_here(job: Job, split: Split, config: RayConfig, folder: Path, observer: Observer) -> Iterator[Path]:
    """Trains `job`, going on from its checkpoint in `folder`; gives the folder of the last checkpoint.

    Raises TrainingError where a GPU is asked for and none is there, and what the loop raises.
    """
    store = FolderStore(folder)
    if config.cpus_per_worker:
        torch.set_num_threads(config.cpus_per_worker)
    train(job, split, Workers(_device(config)), store, observer)
    with store.latest() as checkpoint:
        if checkpoint is None:
            raise TrainingError(f"training ended without a checkpoint in {folder}")
        yield checkpoint


def _device(config: RayConfig) -> torch.device:
    there = torch.cuda.is_available()
    if config.use_gpu and not there:
        raise TrainingError("ray.use_gpu is true, but PyTorch finds no GPU: set it to null or false")
    return torch.device("cuda" if there and config.use_gpu is not False else "cpu")
