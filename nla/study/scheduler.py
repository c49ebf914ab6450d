"""Executes the runs of a study that have no record yet, on Ray: as many at once as fit, each in its own process.

`Scheduler.run` turns specifications of runs into records; `tune` chooses each method's setting with it.
"""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.exceptions import RayError

from nla.config.base import DEFAULTS, section
from nla.config.evaluate import EvaluateConfig
from nla.config.ray import RayConfig
from nla.console import bar, say
from nla.errors import Diverged, NLAError, TrainingError, user_message
from nla.evaluation.predict import Views
from nla.io import sha256
from nla.models.weights import existing
from nla.ray_cluster import Cluster, connected
from nla.ray_errors import reason
from nla.study.grid import Grid, RunSpec
from nla.study.manifest import Entry, Manifest, TuningEntries, TuningEntry
from nla.study.record import RECORDS, Record, log_probabilities, read_record, write_record
from nla.study.tuning import Attempt, best_candidate, candidates_of, tuning_specs
from nla.study.variants import Variant, Variants
from nla.study.worker import Result, run_job
from nla.training.job import Job, image_spec, training_config, with_first_weights
from nla.tuning.space import Values
from nla.workflow.paths import workspace
from nla.workflow.provenance import CODE, DIGITS, fingerprint, git_commit, imported_sources
from nla.workflow.runs import RUNS
from nla.workflow.stage import log_file

WORKER = Path("nla/study/worker.py")
"""An unfinished run resumes only if neither this file nor what it imports has changed."""
RETRIES = 3
"""How often a run resumes from its last checkpoint after its process or node was lost."""


class StudyRun(NamedTuple):
    """A run of the study, with the name of its record."""

    spec: RunSpec
    fingerprint: str

    @property
    def path(self) -> Path:
        """Path of the record."""
        return RECORDS / f"{self.fingerprint}.parquet"


class StudyRuns(NamedTuple):
    """Outcome of the requested runs, in their order."""

    runs: list[StudyRun]
    failed: dict[str, NLAError]
    """Fingerprint -> error."""

    @property
    def done(self) -> list[StudyRun]:
        """The runs that have their records."""
        return [run for run in self.runs if run.fingerprint not in self.failed]

    def names(self, fingerprints: Iterable[str]) -> str:
        """Names of some of the runs, for a message."""
        chosen = set(fingerprints)
        return ", ".join(str(run.spec) for run in self.runs if run.fingerprint in chosen)


class Task(NamedTuple):
    """A run to start."""

    fingerprint: str
    """Of its record."""
    job: Job
    variant: ray.ObjectRef[Variant]
    """Reference to its data in Ray's object store."""
    folder: Path
    """Folder of its checkpoints, on the node that it runs on."""
    views: Views | None
    """Augmented views over which test predictions are averaged; None leaves test unused."""


@dataclass(frozen=True)
class Scheduler:
    """Runs what has no record yet, and writes each record as its run ends."""

    variants: Variants
    config: RayConfig
    root: Path

    def run(self, title: str, specs: Sequence[RunSpec]) -> StudyRuns:
        """Executes each distinct run once, however many request it; `title` is their name in the console output."""
        runs = [StudyRun(spec, run_fingerprint(spec, self.variants, self.root)) for spec in specs]
        missing = {run.fingerprint: run for run in runs if not run.path.is_file()}
        recorded = sum(run.fingerprint not in missing for run in runs)
        say(f"{title} {workspace().name}: {len(runs)} runs, {recorded} of them have their records")
        return StudyRuns(runs, self._run_missing(missing) if missing else {})

    def _run_missing(self, missing: Mapping[str, StudyRun]) -> dict[str, NLAError]:
        """Fingerprint -> error of the runs that failed."""
        errors: dict[str, NLAError] = {}
        with connected(self.config) as cluster, bar("study", "runs") as progress:
            say(f"full logs: {log_file()}, and Ray's in {cluster.logs}")
            outcomes = run_all(cluster, self._tasks([*missing.values()]), self.config)
            for done, (task, result) in enumerate(outcomes, 1):
                run = missing[task.fingerprint]
                if isinstance(result, NLAError):
                    errors[task.fingerprint] = result
                    say(f"{run.spec}: {result}")
                else:
                    record = make_record(run, result)
                    write_record(run.path, record)
                    shutil.rmtree(task.folder, ignore_errors=True)  # if it ran on this machine
                    say(f"{run.spec}: {summary(record)}")
                progress(done, len(missing))
        return errors

    def _tasks(self, missing: Sequence[StudyRun]) -> Iterator[Task]:
        """The tasks; their data is loaded only when the next one is requested."""
        code = fingerprint({}, imported_sources(WORKER, CODE), CODE)
        for config, group in itertools.groupby(missing, lambda run: run.spec.data):
            variant = self.variants.variant(config)
            shared, train = ray.put(variant), variant.split.train
            image, classes = image_spec(train.images_NHWC), len(train.classes)
            for run in group:
                name = f"{workspace().name}-{run.fingerprint}-{code}"  # two studies may train the same at once
                folder = self.root / RUNS / name
                job = Job(training_config(run.spec.params), num_classes=classes, image=image, fingerprint=name)
                with_weights = with_first_weights(job, self.root)[0]
                yield Task(run.fingerprint, with_weights, shared, folder, views_on_test(run.spec))


def run_all(cluster: Cluster, tasks: Iterable[Task], config: RayConfig) -> Iterator[tuple[Task, Result | NLAError]]:
    """Yields each task with its outcome, as they end; `tasks` is advanced only when there is room for the next.

    Raises:
        TrainingError: a run does not fit the cluster at all.
    """
    resources = cluster.trial_resources(config)
    options = {"num_cpus": resources["CPU"], "num_gpus": resources["GPU"], "max_retries": RETRIES}
    start: Any = ray.remote(_attempt).options(**options)
    limit = config.max_concurrent_trials or cluster.max_concurrent(resources)
    waiting, running = iter(tasks), dict[Any, Task]()
    while True:
        while len(running) < limit and (task := next(waiting, None)):
            gpu = resources["GPU"] > 0
            future = start.remote(task.job, task.variant, task.folder, config.cpus_per_trial, gpu, task.views)
            running[future] = task
        if not running:
            return
        (ended,), _ = ray.wait(list(running), num_returns=1)
        yield running.pop(ended), _outcome(ended, cluster)


def _attempt(job: Job, variant: Variant, folder: Path, cpus: int, gpu: bool, views: Views | None) -> Result | NLAError:
    """Runs a task; an NLAError or OSError is returned, because a retry would only meet it again."""
    try:
        return run_job(job, variant, folder, cpus, gpu, views)
    except NLAError as error:
        return error
    except OSError as error:  # such as a full disk
        return TrainingError(user_message(error))


def _outcome(ended: Any, cluster: Cluster) -> Result | NLAError:
    try:
        return ray.get(ended)
    except RayError as error:
        return TrainingError(f"{reason(error)}\nThe full logs: {cluster.logs}")


def tune(scheduler: Scheduler, grid: Grid, params: Mapping[str, Any]) -> tuple[StudyRuns, dict[str, Values]]:
    """Runs the tuning; returns its runs, and method -> the values with the highest mean score on validation.

    A setting that diverges cannot be chosen.

    Raises:
        TrainingError: a run failed otherwise, so that its method would have had fewer settings than the others.
    """
    if grid.tuning is None:
        return StudyRuns([], {}), {}
    tuning = scheduler.run("tuning", tuning_specs(grid, params))
    if lost := [name for name, error in tuning.failed.items() if not isinstance(error, Diverged)]:
        raise TrainingError(f"runs of the tuning failed: {tuning.names(lost)}. `dvc repro` tries them again.")
    objective = grid.tuning.objective
    attempts = []
    for run in tuning.runs:
        spec, score = run.spec, None if run.fingerprint in tuning.failed else read_record(run.path).score(objective)
        assert spec.setting is not None
        attempts.append(Attempt(spec.method, spec.setting, spec.condition, spec.values, score))
    candidates = candidates_of(attempts)
    return tuning, {method: best_candidate(method, tried).values for method, tried in candidates.items()}


def make_manifest(grid: Grid, tuning: StudyRuns, study: StudyRuns) -> Manifest:
    """Content of runs.json: the runs that have records, and all runs of the tuning."""
    entries = [Entry(**_key(run.spec), record=run.fingerprint) for run in study.done]
    manifest = Manifest(reference=grid.reference, caveats=grid.caveats, runs=entries)
    if grid.tuning is None:
        return manifest
    tried = [
        TuningEntry(
            **_key(run.spec),
            record=None if run.fingerprint in tuning.failed else run.fingerprint,
            setting=run.spec.setting or 0,
            values=dict(run.spec.values),
        )
        for run in tuning.runs
    ]
    asked = grid.tuning.model_dump(include={"conditions", "seed", "objective"})
    return manifest.model_copy(update={"tuning": TuningEntries(**asked, trainings=tried)})


def _key(spec: RunSpec) -> dict[str, Any]:
    return {"method": spec.method, "condition": spec.condition, "seed": spec.seed}


def delete_records(root: Path) -> None:
    """Removes the records of the study in the current folder, and its checkpoints in the project `root`."""
    for record in RECORDS.glob("*.parquet"):
        record.unlink()
    ours = re.compile(rf"{re.escape(workspace().name)}-[0-9a-f]{{{DIGITS}}}-[0-9a-f]{{{DIGITS}}}")
    for folder in (root / RUNS).glob("*"):
        if ours.fullmatch(folder.name):
            shutil.rmtree(folder)


def views_on_test(spec: RunSpec) -> Views | None:
    """Augmented views over which test predictions are averaged; None in tuning, which does not use test."""
    config = section(EvaluateConfig, spec.params)
    return None if spec.setting is not None else Views(config.mirror, config.shift)


def run_fingerprint(spec: RunSpec, variants: Variants, root: Path) -> str:
    """Hash of the parameters, first weights and data of a run, and of how test is measured; names its record."""
    sections = {name: config.stated() for name, config in training_config(spec.params).sections.items()}
    if start := sections["model"].get("weights"):
        sections["model"]["weights"] = sha256(existing(root / start))
    views = section(EvaluateConfig, spec.params).stated(include={"mirror", "shift"})
    measured = views if spec.setting is None else None  # tuning does not use test
    content = {**sections, "data": variants.key(spec.data), "evaluate": measured, "defaults": DEFAULTS}
    return fingerprint(content, [], workspace())


def make_record(run: StudyRun, result: Result) -> Record:
    """The record of a run."""
    data, progress, epochs = run.spec.data, result.progress, result.epochs
    predicted = {epoch: p_NC.argmax(1).astype(np.uint8) for epoch, p_NC in result.p.items()}
    unused = np.empty(0, np.uint8)  # test, in tuning
    return Record(
        method=run.spec.method,
        condition=run.spec.condition,
        noise_kind=data.noise.kind,
        noise_rate=data.noise.rate,
        imbalance_factor=data.imbalance_factor,
        seed=run.spec.seed,
        fingerprint=run.fingerprint,
        epochs=epochs["last"],
        best_epoch=epochs["given"],
        seconds=sum(row["seconds"] for row in progress.history),
        params={**training_config(run.spec.params).dump(), "data": data.model_dump(mode="json")},
        facts={**progress.facts, "commit": git_commit(workspace()), **result.node},
        claims=result.claims,
        valid_accuracy=[row["valid_accuracy"] for row in progress.history],
        valid_mean_accuracy=[row["valid_mean_accuracy"] for row in progress.history],
        test_accuracy=result.on_test.get("test_accuracy", []),
        test_mean_accuracy=result.on_test.get("test_mean_accuracy", []),
        best_predicted=predicted.get(epochs["given"], unused),
        last_predicted=predicted.get(epochs["last"], unused),
        clean_epoch=epochs["clean"],
        clean_accuracy=[row["clean_accuracy"] for row in progress.history],
        clean_predicted=predicted.get(epochs["clean"], unused),
        log_p={epoch: log_probabilities(p_NC) for epoch, p_NC in result.p.items()},
    )


def summary(record: Record) -> str:
    """One line on validation for the console; test results are left to the report."""
    when, minutes = f"after epoch {record.best_epoch} of {record.epochs}", record.seconds / 60
    return f"{record.score('accuracy'):.2%} on validation {when} ({minutes:.1f} min)"
