"""The training loop on Ray Train: one or more workers on CPUs (gloo) or GPUs (nccl).

Images are held once in the object store of each node, and every worker of the node maps the same memory. Callbacks run
in the driver, which the main worker sends messages (nla.training.message_queue).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray
import ray.train
import torch
from ray.exceptions import RayError
from ray.train import CheckpointConfig, RunConfig, UserCallback
from ray.train.backend import BackendConfig
from ray.train.torch import TorchConfig, get_device
from ray.train.v2.api.config import FailureConfig, ScalingConfig
from ray.train.v2.api.exceptions import TrainingFailedError

from nla.config.ray import RayConfig
from nla.errors import ClusterError, NLAError, TrainingError, is_explained, user_message
from nla.ray_cluster import Cluster
from nla.ray_errors import causes, reason
from nla.training.callbacks import Callback, CallbackList
from nla.training.checkpoint import KEPT
from nla.training.checkpoint_store import CheckpointStore
from nla.training.job import Job
from nla.training.loop import TrainingLoop
from nla.training.message_queue import MessageQueue, QueueCallback, forwarded
from nla.training.process_group import ProcessGroup
from nla.training.ray_store import RayTrainStore, last_checkpoint
from nla.training.ray_trainers import LocalRayTrainer, RayTrainer
from nla.training.trainer import Split, Trainer
from nla.workflow.runs import absolute_storage

HEALTH_CHECK, HEALTH_CHECK_INTERVAL = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2"
"""Seconds between Ray's polls of its workers, for which the checkpoint of each epoch waits; Ray's default is 2."""
START_ATTEMPTS = 2
"""Attempts, of a minute each, to find room for the workers on a shared cluster; Ray would try for ever. After the loss
of a node, Ray may ask once more for as many workers as before: it learns of a lost node half a minute later."""

Make = Callable[[Any, ProcessGroup, CheckpointStore, Iterable[Callback]], TrainingLoop[Any, Any]]
"""Makes the loop of a worker from the data of the run."""

log = logging.getLogger(__name__)


@contextlib.contextmanager
def train_on(
    cluster: Cluster,
    job: Job,
    split: Split | ray.ObjectRef[Split],
    config: RayConfig,
    storage: str,
    callbacks: Iterable[Callback] = (),
    ray_callbacks: Sequence[UserCallback] = (),
) -> Iterator[Path]:
    """Trains `job` on images; the rest as `run_on`."""
    make = functools.partial(_trainer, job)
    with run_on(cluster, make, split, job.fingerprint, config, storage, callbacks, ray_callbacks) as folder:
        yield folder


def _trainer(
    job: Job, split: Split, group: ProcessGroup, store: CheckpointStore, callbacks: Iterable[Callback]
) -> Trainer:
    return Trainer(job, split, group, store, callbacks)


@contextlib.contextmanager
def run_on(
    cluster: Cluster,
    make: Make,
    data: Any,
    fingerprint: str,
    config: RayConfig,
    storage: str,
    callbacks: Iterable[Callback] = (),
    ray_callbacks: Sequence[UserCallback] = (),
) -> Iterator[Path]:
    """Runs the loop that `make` makes, resuming from the run's checkpoint in `storage`; yields the folder of the last.

    Args:
        cluster: where its workers run.
        make: called by each worker; it pickles.
        data: for `make`, or a reference to them in Ray's object store.
        fingerprint: of the run.
        config: number of workers, and their resources.
        storage: folder or URL that all nodes see; the fingerprint names the run in it. A relative folder is
            relative to the project.
        callbacks: called in the driver.
        ray_callbacks: called by Ray Train.

    Raises:
        NLAError: that of the first worker that had one.
        ClusterError: training failed otherwise; the message names the folder of the logs.
    """
    workers, cpus, gpu = cluster.worker_group(config)
    # A Ray of our own never grows; if it loses resources, this process has ended, too.
    count = workers if cluster.is_local else config.num_workers
    queue = MessageQueue()
    shared = data if isinstance(data, ray.ObjectRef) else ray.put(data)
    os.environ.setdefault(HEALTH_CHECK, HEALTH_CHECK_INTERVAL)
    trainer = (LocalRayTrainer if cluster.is_local else RayTrainer)(
        # Not by train_loop_config, which the controller would unpickle.
        functools.partial(_train_worker, _WorkerArguments(make, shared, cpus, gpu, queue)),
        backend_config=BackendConfig() if count == 1 else TorchConfig(),
        scaling_config=ScalingConfig(num_workers=count, use_gpu=gpu, resources_per_worker={"CPU": cpus}),
        run_config=_run_config(fingerprint, config, storage, ray_callbacks),
    )
    with contextlib.closing(queue):
        with forwarded(queue, CallbackList(callbacks)):
            try:
                result = trainer.fit()
            except (TrainingFailedError, RayError) as error:  # the latter if Ray Train's controller was killed
                raise _cause(error, cluster) from None
        if failure := queue.error():
            raise failure
    warn = CallbackList(callbacks).on_warning
    with last_checkpoint(result.checkpoint, result.filesystem, Path(result.path), warn) as folder:
        if folder is None:
            raise ClusterError(f"Ray Train ended without a checkpoint. See {cluster.logs}.")
        yield folder


def _run_config(fingerprint: str, config: RayConfig, storage: str, ray_callbacks: Sequence[UserCallback]) -> RunConfig:
    failures = FailureConfig(config.max_failures, controller_failure_limit=START_ATTEMPTS - 1 + config.max_failures)
    return RunConfig(
        name=fingerprint,
        storage_path=absolute_storage(storage),
        failure_config=failures,
        checkpoint_config=CheckpointConfig(num_to_keep=KEPT),
        callbacks=list(ray_callbacks),  # type: ignore[arg-type]  # annotated with the class of the older Ray Train
    )


class _WorkerArguments(NamedTuple):
    make: Make
    data: ray.ObjectRef[Any]
    cpus: int
    gpu: bool
    queue: MessageQueue


def _train_worker(arguments: _WorkerArguments) -> None:
    """Runs on each Ray worker. When Ray repeats it after an NLAError, it ends at once: the error would recur."""
    make, data, cpus, gpu, queue = arguments
    if queue.error():
        return
    torch.set_num_threads(cpus)
    device = get_device() if gpu else torch.device("cpu")  # get_device would return a GPU that Ray has not assigned
    try:
        make(ray.get(data), ProcessGroup.current(device), RayTrainStore(), [QueueCallback(queue)]).fit()
    except Exception as error:
        if not is_explained(error):
            raise
        failure = error if isinstance(error, NLAError) else TrainingError(user_message(error))
        queue.put_error(failure)
        raise failure from None  # other workers may be waiting for this one, and only Ray can end them


def _cause(error: TrainingFailedError | RayError, cluster: Cluster) -> NLAError:
    """The NLAError of the first worker that had one, else a ClusterError with Ray's reason."""
    if ours := next((cause for cause in causes(error) if isinstance(cause, NLAError)), None):
        return ours
    log.debug("training failed", exc_info=error)
    return ClusterError(f"training failed: {reason(error)}\nThe full logs: {cluster.logs}")
