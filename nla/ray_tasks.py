"""Runs tasks on Ray: as many at once as fit, each in its own process, which is started again if it is lost."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import ray
from ray.exceptions import RayError

from nla.config.ray import RayConfig
from nla.errors import ClusterError, NLAError, TrainingError, is_explained, user_message
from nla.ray_cluster import Cluster
from nla.ray_errors import reason

RETRIES = 3
"""How often a task starts again after its process or node was lost, to resume from its own checkpoint."""
K = TypeVar("K")
R = TypeVar("R")


class Ended(NamedTuple, Generic[K, R]):
    """A task that has ended."""

    key: K
    result: R | NLAError


def run_tasks(
    cluster: Cluster,
    config: RayConfig,
    function: Callable[..., R],
    tasks: Iterable[tuple[K, Mapping[str, Any]]],
) -> Generator[Ended[K, R]]:
    """Yields each task as it ends; `tasks` is advanced only when there is room for the next.

    What still runs when the generator is closed is cancelled, so close it while Ray is connected.

    Args:
        cluster: where they run.
        config: resources of a task: those of a trial.
        function: called with the arguments of the task, and with `cpus`, the number of its processors, and `gpu`,
            whether it has one.
        tasks: (key, arguments by name) of each; references to Ray's objects are passed as what they stand for.

    Raises:
        TrainingError: a task does not fit the cluster at all.
    """
    resources = cluster.trial_resources(config)
    options = {"num_cpus": resources["CPU"], "num_gpus": resources["GPU"], "max_retries": RETRIES}
    start: Any = ray.remote(attempt).options(**options)
    limit = config.max_concurrent_trials or cluster.max_concurrent(resources)
    waiting, running = iter(tasks), dict[Any, K]()
    try:
        while True:
            while len(running) < limit and (task := next(waiting, None)):
                key, arguments = task
                future = start.remote(function, **arguments, cpus=config.cpus_per_trial, gpu=resources["GPU"] > 0)
                running[future] = key
            if not running:
                return
            (ended,), _ = ray.wait(list(running), num_returns=1)
            yield Ended(running.pop(ended), _result(ended, cluster))
    finally:
        for future in running:
            ray.cancel(future, force=True)


def attempt(function: Callable[..., R], **arguments: Any) -> R | NLAError:
    """Calls the function; an error that is no bug is returned, because a retry would only meet it again."""
    try:
        return function(**arguments)
    except Exception as error:
        if not is_explained(error):
            raise
        return error if isinstance(error, NLAError) else TrainingError(user_message(error))


def _result(ended: Any, cluster: Cluster) -> Any:
    try:
        return ray.get(ended)
    except RayError as error:
        return ClusterError(f"{reason(error)}\nThe full logs: {cluster.logs}")
