"""The training loop on Ray Train: 1..n workers on CPUs (gloo) or GPUs (nccl).

Images lie once in the object store of each node, and every worker of the node maps the same memory.
What the first worker tells travels to the driver, which shows and records it: the workers need no tracking store.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import ray
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, RunConfig, UserCallback
from ray.train.backend import BackendConfig
from ray.train.torch import TorchConfig, get_device
from ray.train.v2.api.config import FailureConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from nla.cluster import Cluster
from nla.config.ray import RayConfig
from nla.errors import ClusterError, NLAError
from nla.training.job import Job
from nla.training.loop import Split, train
from nla.training.mailbox import Letters, Mailbox, relay
from nla.training.observer import Observer
from nla.training.store import fetched
from nla.training.trainer import AloneTrainer
from nla.training.workers import Workers
from nla.workflow.storage import absolute

POLL, POLL_EVERY = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2"
"""How often Ray looks at its workers. The checkpoint of each epoch waits for that, up to 2 s by Ray's default."""
START_ATTEMPTS = 2
"""Of a minute each, to find room for the workers on a cluster that others use too; Ray would go on for ever. After the
loss of a node it may ask once more for as many as before: it hears of a lost node half a minute later."""

log = logging.getLogger(__name__)


@contextlib.contextmanager
def train_on(
    cluster: Cluster,
    job: Job,
    split: Split | ray.ObjectRef[Split],
    config: RayConfig,
    storage: str,
    observer: Observer,
    callbacks: Sequence[UserCallback] = (),
) -> Iterator[Path]:
    """Trains `job`, going on from its checkpoint in `storage`; gives the folder of the last checkpoint.

    Args:
        split: the data, or where Ray has them.
        storage: folder or URL that all nodes see; the run in it is named by the job's fingerprint. A relative folder
            is one of the project.
        callbacks: told by Ray Train of each epoch.

    Raises the NLAError of the first worker that had one, else ClusterError with the place of the logs.
    """
    workers, cpus, gpu = cluster.share(config)
    # A Ray of our own never grows, and where it shrinks, this process is gone.
    count = workers if cluster.ours else config.num_workers
    mailbox = Mailbox()
    data = split if isinstance(split, ray.ObjectRef) else ray.put(split)
    os.environ.setdefault(POLL, POLL_EVERY)
    trainer = (AloneTrainer if cluster.ours else DataParallelTrainer)(
        functools.partial(_work, _Spec(job, data, cpus, gpu, mailbox)),  # a configuration the controller would unpack
        backend_config=BackendConfig() if count == 1 else TorchConfig(),
        scaling_config=ScalingConfig(num_workers=count, use_gpu=gpu, resources_per_worker={"CPU": cpus}),
        run_config=RunConfig(
            name=job.fingerprint,
            storage_path=absolute(storage),
            failure_config=FailureConfig(
                config.max_failures, controller_failure_limit=START_ATTEMPTS - 1 + config.max_failures
            ),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            callbacks=list(callbacks),  # type: ignore[arg-type]  # it names the class of the older Ray Train
        ),
    )
    with contextlib.closing(mailbox):
        with relay(mailbox, observer):
            try:
                result = trainer.fit()
            except TrainingFailedError as error:
                raise _reason(error, cluster) from None
        if failure := mailbox.failure():
            raise failure
    if result.checkpoint is None:
        raise ClusterError(f"Ray Train ended without a checkpoint: see {cluster.logs}")
    with result.checkpoint.as_directory() as folder:
        yield Path(folder)


class _Spec(NamedTuple):
    """What a worker needs to know."""

    job: Job
    split: ray.ObjectRef[Split]
    cpus: int
    gpu: bool
    mailbox: Mailbox


def _work(spec: _Spec) -> None:
    """What each Ray worker runs. After an NLAError it has nothing to do: a repetition would only meet it again."""
    if spec.mailbox.failure():
        return
    torch.set_num_threads(spec.cpus)
    device = get_device() if spec.gpu else torch.device("cpu")  # Ray would give a GPU that it has not shared out
    try:
        train(spec.job, ray.get(spec.split), Workers.joined(device), _RayStore(), Letters(spec.mailbox))
    except NLAError as error:
        spec.mailbox.fail(error)
        raise  # the other workers may be waiting for this one: only Ray can end them


class _RayStore:
    """Checkpoints in Ray Train's storage."""

    def latest(self) -> AbstractContextManager[Path | None]:
        return fetched(ray.train.get_checkpoint())

    def save(self, write: Callable[[Path], None] | None, row: dict[str, float]) -> None:
        if write is None:
            ray.train.report(row)
            return
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            ray.train.report(row, checkpoint=Checkpoint.from_directory(folder))


def _reason(error: TrainingFailedError, cluster: Cluster) -> NLAError:
    failures = error.worker_failures if isinstance(error, WorkerGroupError) else {}
    ours = [failure for _, failure in sorted(failures.items()) if isinstance(failure, NLAError)]
    if ours:
        return ours[0]
    log.debug("training failed", exc_info=error)
    last = str(error).strip().splitlines()[-1]
    return ClusterError(f"training failed: {last}\nThe full logs: {cluster.logs}")
