"""Workers joined by torch.distributed over gloo, in processes of this machine; what a test asks of each of them.

The processes are forked from a server that has imported the loop once and has started no thread of its own.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from patience import PATIENCE

from nla.data.samples import Samples
from nla.models.classifier import Classifier
from nla.training.checkpoint_store import FolderStore
from nla.training.job import Job
from nla.training.process_group import ProcessGroup
from nla.training.trainer import Split, Trainer
from nla.training.validation import validation_metrics


@functools.cache
def pool() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(3, mp_context=context)


def together(size: int, task: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `task(workers, *arguments)` gives on each of `size` workers; raises what the first of them raised."""
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder, "store"))
        members = [pool().submit(member, rank, size, meeting, task, arguments) for rank in range(size)]
        return [future.result(timeout=PATIENCE) for future in members]


def member(rank: int, size: int, meeting: str, task: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    torch.set_num_threads(1)
    with joined(rank, size, meeting) as workers:
        return task(workers, *arguments)


@contextlib.contextmanager
def joined(rank: int, size: int, meeting: str) -> Iterator[ProcessGroup]:
    dist.init_process_group("gloo", store=dist.FileStore(meeting, size), rank=rank, world_size=size)
    try:
        yield ProcessGroup.current(torch.device("cpu"))
    finally:
        dist.destroy_process_group()


def train_into(workers: ProcessGroup, job: Job, split: Split, folder: Path) -> list[dict[str, float]]:
    """Trains; the first worker keeps its checkpoints in `folder`."""
    return Trainer(job, split, workers, FolderStore(folder)).fit().history


def measure(workers: ProcessGroup, job: Job, samples: Samples) -> dict[str, float]:
    """Validates a model of the job's seed."""
    torch.manual_seed(job.config.train.seed)
    return validation_metrics(job.build(), samples, workers, False)


def sum_of_ranks(workers: ProcessGroup) -> tuple[int, int, bool, float]:
    """Who this is, and the sum of 10 ** rank over all."""
    return workers.rank, workers.size, workers.is_main, float(workers.sum(torch.tensor(10.0**workers.rank)))


def agreed(workers: ProcessGroup) -> dict[str, torch.Tensor]:
    """Buffers of a BatchNorm after each worker has set its own to its rank."""
    norm = torch.nn.BatchNorm2d(2)
    for buffer in norm.buffers():
        buffer.fill_(workers.rank)
    workers.average_buffers(norm)
    return {name: buffer.numpy() for name, buffer in norm.named_buffers()}


def is_replicated(workers: ProcessGroup, job: Job) -> str:
    """The class that a model is wrapped in."""
    model: Classifier = job.build()
    return type(workers.replicate(model)).__name__
