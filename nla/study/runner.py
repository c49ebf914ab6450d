"""Runs the trainings of a study on Ray: as many at once as fit, each in its own process.

Logs a study to MLflow: one parent run, and a nested run for each training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError

from nla.config.ray import RayConfig
from nla.errors import NLAError, TrainingError
from nla.evaluation.predict import Views
from nla.ray_cluster import Cluster
from nla.study.record import Record
from nla.study.run import Result, run
from nla.study.variants import Variant
from nla.tracking import MlflowTracker
from nla.tracking.store import PARENT, commit_tags, runs_by_tag
from nla.training.job import Job

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
    resources = cluster.trial_resources(config)
    options = {"num_cpus": resources["CPU"], "num_gpus": resources["GPU"], "max_retries": RETRIES}
    start: Any = ray.remote(_attempt).options(**options)
    limit = config.max_concurrent_trials or cluster.max_concurrent(resources)
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
        return run(job, variant, folder, cpus, gpu, views)
    except NLAError as error:
        return error


def _outcome(ended: Any, cluster: Cluster) -> Result | NLAError:
    try:
        return ray.get(ended)
    except RayError as error:
        return TrainingError(f"{str(error).strip().splitlines()[-1]}\nThe full logs: {cluster.logs}")


STUDY, RECORD = "nla.study", "nla.record"
"""Tags: the study's name and, on a nested run, the fingerprint and version of its record."""
WHOLE = "whole"
"""Value of RECORD on the parent run."""


class MlflowStudy:
    """Logs what the MLflow store lacks, from the records only: they may come from another machine."""

    def __init__(self, uri: str, name: str) -> None:
        self.uri, self.name, self.parent = uri, name, ""
        self.known = runs_by_tag(uri, STUDY, name, RECORD)

    @contextlib.contextmanager
    def opened(self, tags: Mapping[str, str]) -> Iterator[None]:
        """Opens the study's run, the same one at each call."""
        tracker = MlflowTracker(self.uri, system_metrics=False)
        before = self.known[WHOLE].run_id if WHOLE in self.known else None
        self.parent = tracker.start(self.name, {}, {**tags, STUDY: self.name, RECORD: WHOLE}, before)
        with tracker.closing():
            yield

    def log(self, record: Record, tags: Mapping[str, str], setting: int | None = None) -> None:
        """Logs a training: parameters, curves on validation, and test metrics of the epoch chosen on validation.

        Args:
            setting: number of the setting in the tuning of its method; tuning does not use test.
        """
        name = f"{record.fingerprint}-{record.version}"
        before = self.known.get(name)
        if before is not None and before.finished:
            return
        tracker = MlflowTracker(self.uri, system_metrics=False)
        made = commit_tags(record.facts.get("commit"))  # the commit that trained it, not the present one
        nested = {**tags, **made, PARENT: self.parent, STUDY: self.name, RECORD: name}
        what: dict[str, Any] = {"method": record.method, "condition": record.condition, "seed": record.seed}
        if setting is not None:
            what["setting"] = setting
        number = "" if setting is None else f", setting {setting}"
        shown = f"{record.method}, {record.condition}, {record.seed}{number}"
        tracker.start(shown, {**what, **record.params}, nested, before and before.run_id)
        with tracker.closing():
            curves = zip(record.valid_accuracy, record.valid_mean_accuracy, strict=True)
            for epoch, (accuracy, mean) in enumerate(curves, 1):
                tracker.log_epoch({"valid_accuracy": accuracy, "valid_mean_accuracy": mean}, epoch)
            chosen = record.best_epoch - 1
            if record.test_accuracy:
                test = {name: getattr(record, name)[chosen] for name in ("test_accuracy", "test_mean_accuracy")}
                tracker.log_metrics(test, record.best_epoch)
