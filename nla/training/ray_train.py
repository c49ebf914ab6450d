"""What workers say on the way to the driver, in the key-value store that every Ray has.

An actor for it would be one more process, whose main loop wakes a hundred times a second beside the training.

Ray Train's trainer without helpers that a training on a Ray of our own does not need.

Each of them is a process that imports Ray Data, and training waits for it. They are chosen in methods of Ray that are
not public: pyproject.toml holds the versions of Ray that have them.

The training loop on Ray Train: 1..n workers on CPUs (gloo) or GPUs (nccl).

Images lie once in the object store of each node, and every worker of the node maps the same memory.
What the first worker tells travels to the driver, which shows and records it: the workers need no tracking store.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import pickle
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import ray
import ray.train
import torch
from ray.exceptions import RayError
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_list, _internal_kv_put
from ray.train import Checkpoint, CheckpointConfig, RunConfig, UserCallback
from ray.train.backend import BackendConfig
from ray.train.torch import TorchConfig, get_device
from ray.train.v2.api.config import FailureConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from nla.config.ray import RayConfig
from nla.errors import ClusterError, NLAError
from nla.ray_cluster import Cluster
from nla.training.callbacks import Callback
from nla.training.checkpoint import fetched
from nla.training.job import Job
from nla.training.local_ray_trainer import LocalRayTrainer
from nla.training.process_group import ProcessGroup
from nla.training.trainer import Split, train
from nla.workflow.runs import absolute_storage

SAY_EVERY = 0.25  # seconds between two messages about steps
LISTEN_EVERY = 0.25

log = logging.getLogger(__name__)


class Mailbox:
    """Letters of one training, which lie in the store until the driver fetches them, and an error that ends it."""

    def __init__(self) -> None:
        self.name = f"nla/{uuid.uuid4().hex}"
        self.letters, self.error = f"{self.name}/letters/", f"{self.name}/error"

    def put(self, kind: str, *content: Any) -> None:
        """Content is what JSON can say."""
        _internal_kv_put(f"{self.letters}{time.time_ns():020}", json.dumps([kind, content]))

    def fetch(self) -> list[tuple[str, list[Any]]]:
        """(kind, content) of each letter, in the order of their clocks; they are then gone."""
        letters = []
        for key in sorted(_internal_kv_list(self.letters)):
            kind, content = json.loads(_internal_kv_get(key))
            letters.append((kind, content))
            _internal_kv_del(key)
        return letters

    def fail(self, error: NLAError) -> None:
        """Keeps the first error."""
        _internal_kv_put(self.error, pickle.dumps(error), overwrite=False)

    def failure(self) -> NLAError | None:
        """The error that ends the training."""
        found = _internal_kv_get(self.error)
        return None if found is None else pickle.loads(found)

    def close(self) -> None:
        """Leaves nothing in the store, unless Ray is gone with it."""
        with contextlib.suppress(RayError):
            _internal_kv_del(self.name, del_by_prefix=True)


class Letters:
    """An observer on a worker that writes to the mailbox. Trouble with that is logged alone: training goes on."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.said = 0.0

    def step(self, epoch: int, step: int, steps: int, images: int) -> None:
        now = time.monotonic()
        if now - self.said >= SAY_EVERY or step == steps:
            self.said = now
            self._say("step", epoch, step, steps, images)

    def epoch(self, row: dict[str, float]) -> None:
        self._say("epoch", row)

    def _say(self, kind: str, *content: Any) -> None:
        try:
            self.mailbox.put(kind, *content)
        except RayError:
            log.debug("a letter was lost", exc_info=True)


@contextlib.contextmanager
def relay(mailbox: Mailbox, observer: Callback) -> Iterator[None]:
    """Passes letters on to `observer` in a thread of the driver, the last ones before it leaves.

    Trouble with that is logged alone: it must neither stop a training nor hide why one failed.
    """
    done = threading.Event()

    def deliver() -> None:
        try:
            for kind, content in mailbox.fetch():
                getattr(observer, kind)(*content)
        except RayError:
            log.debug("no letters: Ray is gone", exc_info=True)
        except Exception:
            log.exception("what training tells could not be shown or recorded")

    def listen() -> None:
        while not done.wait(LISTEN_EVERY):
            deliver()

    thread = threading.Thread(target=listen, daemon=True, name="relay")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        deliver()


POLL, POLL_EVERY = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2"
"""How often Ray looks at its workers. The checkpoint of each epoch waits for that, up to 2 s by Ray's default."""
START_ATTEMPTS = 2
"""Of a minute each, to find room for the workers on a cluster that others use too; Ray would go on for ever. After the
loss of a node it may ask once more for as many as before: it hears of a lost node half a minute later."""


@contextlib.contextmanager
def train_on(
    cluster: Cluster,
    job: Job,
    split: Split | ray.ObjectRef[Split],
    config: RayConfig,
    storage: str,
    observer: Callback,
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
    workers, cpus, gpu = cluster.worker_group(config)
    # A Ray of our own never grows, and where it shrinks, this process is gone.
    count = workers if cluster.is_local else config.num_workers
    mailbox = Mailbox()
    data = split if isinstance(split, ray.ObjectRef) else ray.put(split)
    os.environ.setdefault(POLL, POLL_EVERY)
    trainer = (LocalRayTrainer if cluster.is_local else DataParallelTrainer)(
        functools.partial(_work, _Spec(job, data, cpus, gpu, mailbox)),  # a configuration the controller would unpack
        backend_config=BackendConfig() if count == 1 else TorchConfig(),
        scaling_config=ScalingConfig(num_workers=count, use_gpu=gpu, resources_per_worker={"CPU": cpus}),
        run_config=RunConfig(
            name=job.fingerprint,
            storage_path=absolute_storage(storage),
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
        train(spec.job, ray.get(spec.split), ProcessGroup.joined(device), _RayStore(), Letters(spec.mailbox))
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
