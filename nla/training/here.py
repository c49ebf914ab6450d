"""The training loop in this very process: no Ray starts, and no other process."""

from __future__ import annotations

from pathlib import Path

import torch

from nla.config.ray import RayConfig
from nla.errors import TrainingError
from nla.machine.available import cores
from nla.training.job import Job
from nla.training.loop import Split, train
from nla.training.observer import Observer
from nla.training.store import FolderStore
from nla.training.workers import Workers


def train_here(job: Job, split: Split, config: RayConfig, folder: Path, observer: Observer) -> Path:
    """Trains `job`, going on from its checkpoint in `folder`; gives the folder of the last checkpoint.

    Raises TrainingError where a GPU is asked for and none is there, and what the loop and the observer raise.
    """
    store = FolderStore(folder)
    torch.set_num_threads(config.cpus_per_worker or cores())
    train(job, split, Workers(_device(config)), store, observer)
    with store.latest() as checkpoint:
        assert checkpoint is not None  # the last epoch's
        return checkpoint


def _device(config: RayConfig) -> torch.device:
    there = torch.cuda.is_available()
    if config.use_gpu and not there:
        raise TrainingError("ray.use_gpu is true, but PyTorch finds no GPU: set it to null or false")
    return torch.device("cuda" if there and config.use_gpu is not False else "cpu")
