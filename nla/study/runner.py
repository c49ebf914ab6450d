"""Runs the trainings of a study on Ray: as many at once as fit, each in its own process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError

from nla.cluster import Cluster
from nla.config.ray import RayConfig
from nla.errors import NLAError, TrainingError
from nla.evaluation.predict import Views
from nla.study.run import Result, run
from nla.study.variants import Variant
from nla.training.job import Job
from nla.training.observer import Silent

RETRIES = 3
"""How often a training resumes from its last checkpoint after its process or node was lost."""


class Task(NamedTuple):
    """A training to run."""

    name: str
    job: Job
    variant: ray.ObjectRef[Variant]
    """Reference to its data in Ray's object store."""
    folder: Path
    """Folder of its checkpoints, on the node that it runs on."""
    views: Views | None
    """Augmented views over which test predictions are averaged; None leaves test unused."""


def run_all(cluster: Cluster, tasks: Iterable[Task], config: RayConfig) -> Iterator[tuple[Task, Result | NLAError]]:
    """Yields each task with its outcome, as they end; `tasks` is advanced only when there is room for the next.

    Raises:
        TrainingError: a training does not fit the cluster at all.
    """
    resources = cluster.alone(config)
    options = {"num_cpus": resources["CPU"], "num_gpus": resources["GPU"], "max_retries": RETRIES}
    start: Any = ray.remote(_attempt).options(**options)
    limit = config.max_concurrent_trials or cluster.room(resources)
    waiting, running = iter(tasks), dict[Any, Task]()
    while True:
        while len(running) < limit and (task := next(waiting, None)):
            given = (task.job, task.variant, task.folder, config.cpus_per_trial, resources["GPU"] > 0, task.views)
            running[start.remote(*given)] = task
        if not running:
            return
        (ended,), _ = ray.wait(list(running), num_returns=1)
        yield running.pop(ended), _outcome(ended, cluster)


def _attempt(job: Job, variant: Variant, folder: Path, cpus: int, gpu: bool, views: Views | None) -> Result | NLAError:
    """Runs a training; an NLAError is returned, because a retry would only meet it again."""
    try:
        return run(job, variant, folder, cpus, gpu, views, Silent())
    except NLAError as error:
        return error


def _outcome(ended: Any, cluster: Cluster) -> Result | NLAError:
    try:
        return ray.get(ended)
    except RayError as error:
        return TrainingError(f"{str(error).strip().splitlines()[-1]}\nThe full logs: {cluster.logs}")
