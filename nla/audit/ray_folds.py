"""Runs folds on Ray: as many at once as fit, each in its own process, which resumes if it is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import ray

from nla.audit.fold import AuditData, FoldProbabilities, run_fold
from nla.audit.fold_results import RunMissing
from nla.config.ray import RayConfig
from nla.console import bar
from nla.errors import ClusterError, NLAError
from nla.ray_cluster import Cluster
from nla.ray_tasks import run_tasks
from nla.training.job import Job


def on_ray(cluster: Cluster, config: RayConfig) -> RunMissing:
    """Runs the folds on the cluster, each with the resources of a trial, and a bar over the folds.

    The first error ends them all; what their checkpoints hold is kept.
    """

    def run_missing(job: Job, data: AuditData, missing: Mapping[int, Path]) -> Iterator[tuple[int, FoldProbabilities]]:
        shared = {"job": ray.put(job), "data": ray.put(data)}
        tasks = ((fold, {**shared, "fold": fold, "folder": folder}) for fold, folder in missing.items())
        with bar("audit", "folds") as update, contextlib.closing(run_tasks(cluster, config, run_fold, tasks)) as ended:
            update(0, len(missing))
            for done, (fold, result) in enumerate(ended, 1):
                yield fold, _of_a_fold(result)
                update(done, len(missing))

    return run_missing


def _of_a_fold(result: FoldProbabilities | NLAError) -> FoldProbabilities:
    if isinstance(result, ClusterError):
        raise ClusterError(f"a fold failed: {result}")
    if isinstance(result, NLAError):
        raise result
    return result
