"""Runs folds on Ray: as many at once as fit, each in its own process, which resumes if it is lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from nla.audit.fold import AuditData, FoldProbabilities, run_fold
from nla.audit.fold_results import RunMissing
from nla.config.ray import RayConfig
from nla.console import bar
from nla.errors import ClusterError, NLAError, TrainingError, is_explained, user_message
from nla.ray_cluster import Cluster
from nla.ray_errors import reason
from nla.training.job import Job

RETRIES = 3
"""How often a fold resumes from its last checkpoint after its process or node was lost."""


def on_ray(cluster: Cluster, config: RayConfig) -> RunMissing:
    """Runs the folds on the cluster, each with the resources of a trial, and a bar over the folds.

    The first error ends them all; what their checkpoints hold is kept.
    """
    resources = cluster.trial_resources(config)
    options = {"num_cpus": resources["CPU"], "num_gpus": resources["GPU"], "max_retries": RETRIES}
    limit = config.max_concurrent_trials or cluster.max_concurrent(resources)

    def run_missing(job: Job, data: AuditData, missing: Mapping[int, Path]) -> Iterator[tuple[int, FoldProbabilities]]:
        start: Any = ray.remote(_attempt).options(**options)
        shared_job, shared_data = ray.put(job), ray.put(data)
        waiting, running = iter(missing.items()), dict[Any, int]()
        with bar("audit", "folds") as update:
            for done in range(len(missing)):
                update(done, len(missing))
                while len(running) < limit and (task := next(waiting, None)):
                    fold, folder = task
                    gpu = resources["GPU"] > 0
                    running[start.remote(shared_job, shared_data, fold, folder, config.cpus_per_trial, gpu)] = fold
                (ended,), _ = ray.wait(list(running), num_returns=1)
                try:
                    yield running.pop(ended), _result(ended, cluster)
                except NLAError:
                    for future in running:
                        ray.cancel(future, force=True)
                    raise
            update(len(missing), len(missing))

    return run_missing


def _attempt(job: Job, data: AuditData, fold: int, folder: Path, cpus: int, gpu: bool) -> FoldProbabilities | NLAError:
    """Runs a fold; an error that is no bug is returned, because a retry would only meet it again."""
    try:
        return run_fold(job, data, fold, folder, cpus, gpu)
    except Exception as error:
        if not is_explained(error):
            raise
        return error if isinstance(error, NLAError) else TrainingError(user_message(error))


def _result(ended: Any, cluster: Cluster) -> FoldProbabilities:
    try:
        result: FoldProbabilities | NLAError = ray.get(ended)
    except RayError as error:
        raise ClusterError(f"a fold failed: {reason(error)}\nThe full logs: {cluster.logs}") from None
    if isinstance(result, NLAError):
        raise result
    return result
