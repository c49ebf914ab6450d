"""The trainings of a study on Ray: as many side by side as find room, each in a process of its own."""

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
"""Times that a training goes on from its last checkpoint after its process or node was lost."""


class Task(NamedTuple):
    """A training to be run."""

    name: str
    job: Job
    variant: ray.ObjectRef[Variant]
    """Its data, in the object store of each node."""
    folder: Path
    """Of its checkpoints, on the node that it runs on."""
    views: Views | None
    """Over which predictions on test are averaged; None does not look at test."""


def run_all(cluster: Cluster, tasks: Iterable[Task], config: RayConfig) -> Iterator[tuple[Task, Result | NLAError]]:
    """What became of each, as they end. `tasks` is asked for the next one when there is room for it.

    Raises TrainingError where a training finds no room at all.
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
    """An NLAError is a result: a repetition would only meet it again."""
    try:
        return run(job, variant, folder, cpus, gpu, views, Silent())
    except NLAError as error:
        return error


def _outcome(ended: Any, cluster: Cluster) -> Result | NLAError:
    try:
        return ray.get(ended)
    except RayError as error:
        return TrainingError(f"{str(error).strip().splitlines()[-1]}\nThe full logs: {cluster.logs}")
