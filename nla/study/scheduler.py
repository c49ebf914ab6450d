"""Executes the runs of a study that have no record yet, on Ray: as many at once as fit, each in its own process.

`Scheduler.run` turns specifications of runs into records; `tune` chooses each method's setting with it.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ray

from nla.config.ray import RayConfig
from nla.console import bar, say
from nla.errors import Diverged, NLAError, TrainingError
from nla.evaluation.predict import Views
from nla.ray_cluster import connected
from nla.ray_tasks import run_tasks
from nla.study.grid import Grid
from nla.study.origin import Origin
from nla.study.record import read_record, write_record
from nla.study.runs import StudyRun, StudyRuns, make_record, record_name, run_fingerprint, summary, views_on_test
from nla.study.specs import RunSpec
from nla.study.times import Times
from nla.study.tuning import Attempt, best_candidate, candidates_of, tuning_specs
from nla.study.variants import Variant, Variants
from nla.study.worker import Result, run_job
from nla.training.job import Job, image_spec, training_config, with_first_weights
from nla.tuning.space import Values
from nla.workflow.paths import workspace
from nla.workflow.provenance import CODE, fingerprint, imported_sources
from nla.workflow.runs import RUNS
from nla.workflow.stage import log_file

WORKER = Path("nla/study/worker.py")
"""An unfinished run resumes only if neither this file nor what it imports has changed."""


class Task(NamedTuple):
    """A run to start."""

    record: str
    """Name of its record."""
    job: Job
    variant: ray.ObjectRef[Variant]
    """Reference to its data in Ray's object store."""
    folder: Path
    """Folder of its checkpoints, on the node that it runs on."""
    views: Views | None
    """Augmented views over which test predictions are averaged; None leaves test unused."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of `run_job` besides its hardware."""
        return {"job": self.job, "variant": self.variant, "folder": self.folder, "views": self.views}


@dataclass(frozen=True)
class Scheduler:
    """Runs what has no record yet, and writes each record as its run ends."""

    variants: Variants
    config: RayConfig
    root: Path
    origin: Origin
    """The code that trains."""
    frozen: bool = False
    """Take the records that exist, of whatever code, and train nothing."""

    def named(self, specs: Iterable[RunSpec]) -> list[StudyRun]:
        """The runs with the names of their records."""
        found = [(spec, run_fingerprint(spec, self.variants, self.root)) for spec in specs]
        return [StudyRun(spec, record_name(run, self.origin.code, self.frozen)) for spec, run in found]

    def run(self, title: str, runs: Sequence[StudyRun]) -> StudyRuns:
        """Executes each distinct run once, however many request it; `title` is their name in the console output."""
        missing = {run.record: run for run in runs if not run.path.is_file()}
        recorded = sum(run.record not in missing for run in runs)
        say(f"{title} {workspace().name}: {len(runs)} runs, {recorded} of them have their records")
        if self.frozen:
            return StudyRuns([*runs], dict.fromkeys(missing, TrainingError("no record, and the study is frozen")))
        return StudyRuns([*runs], self._run_missing(missing) if missing else {})

    def _run_missing(self, missing: Mapping[str, StudyRun]) -> dict[str, NLAError]:
        """Name of the record -> error of the runs that failed."""
        self.origin.require_clean()
        errors: dict[str, NLAError] = {}
        with connected(self.config) as cluster, bar("study", "runs") as progress:
            say(f"full logs: {log_file()}, and Ray's in {cluster.logs}")
            tasks = ((task, task.arguments) for task in self._tasks([*missing.values()]))
            with contextlib.closing(run_tasks(cluster, self.config, run_job, tasks)) as ended:
                for done, (task, result) in enumerate(ended, 1):
                    if isinstance(result, NLAError):
                        errors[task.record] = result
                        say(f"{missing[task.record].spec}: {result}")
                    else:
                        self._keep(missing[task.record], task, result)
                    progress(done, len(missing))
        return errors

    def _keep(self, run: StudyRun, task: Task, result: Result) -> None:
        record = make_record(run, result, self.origin)
        write_record(run.path, record)
        shutil.rmtree(task.folder, ignore_errors=True)  # if it ran on this machine
        say(f"{run.spec}: {summary(record)}")

    def _tasks(self, missing: Sequence[StudyRun]) -> Iterator[Task]:
        """The tasks; their data is loaded only when the next one is requested."""
        code = fingerprint({}, imported_sources(WORKER, CODE), CODE)
        for config, group in itertools.groupby(missing, lambda run: run.spec.data):
            variant = self.variants.variant(config)
            shared, train = ray.put(variant), variant.split.train
            image, classes = image_spec(train.images_NHWC), len(train.classes)
            for run in group:
                name = f"{workspace().name}-{run.record}-{code}"  # two studies may train the same at once
                folder = self.root / RUNS / name
                job = Job(training_config(run.spec.params), num_classes=classes, image=image, fingerprint=name)
                with_weights = with_first_weights(job, train.images_NHWC, self.root)[0]
                yield Task(run.record, with_weights, shared, folder, views_on_test(run.spec))


def tune(
    scheduler: Scheduler, grid: Grid, params: Mapping[str, Any], times: Times | None = None
) -> tuple[StudyRuns, dict[str, Values]]:
    """Runs the tuning; returns its runs, and method -> the values with the highest mean score on validation.

    A setting that diverges, or of which a frozen study has no record, cannot be chosen.

    Raises:
        TrainingError: a run failed otherwise, so that its method would have had fewer settings than the others.
    """
    if grid.tuning is None:
        return StudyRuns([], {}), {}
    tuning = scheduler.run("tuning", scheduler.named(tuning_specs(grid, params, times)))
    lost = [name for name, error in tuning.failed.items() if not isinstance(error, Diverged)]
    if lost and not scheduler.frozen:
        raise TrainingError(f"runs of the tuning failed: {tuning.names(lost)}. `dvc repro` tries them again.")
    objective = grid.tuning.objective
    attempts = []
    for run in tuning.runs:
        spec, score = run.spec, None if run.record in tuning.failed else read_record(run.path).score(objective)
        assert spec.setting is not None
        attempts.append(Attempt(spec.method, spec.setting, spec.condition, spec.values, score))
    candidates = candidates_of(attempts)
    return tuning, {method: best_candidate(method, tried).values for method, tried in candidates.items()}
