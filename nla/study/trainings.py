"""Trains the cells of a study that have no record yet, and writes their records."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import ray

from nla.config.base import DEFAULTS, section
from nla.config.evaluate import EvaluateConfig
from nla.config.ray import RayConfig
from nla.console import bar, say
from nla.errors import NLAError
from nla.evaluation.predict import Views
from nla.io import sha256
from nla.models.weights import existing
from nla.ray_cluster import connected
from nla.study.grid import Cell
from nla.study.record import Record, write_record
from nla.study.run import Result
from nla.study.runner import Task, run_all
from nla.study.variants import Variants
from nla.training.job import Job, image_spec, training_config, with_first_weights
from nla.workflow.paths import workspace
from nla.workflow.provenance import CODE, DIGITS, fingerprint, git_commit, imported_sources
from nla.workflow.runs import RUNS
from nla.workflow.stage import log_file

RECORDS = Path("records")


class Training(NamedTuple):
    """A cell of the grid, with the name of its record."""

    cell: Cell
    fingerprint: str

    @property
    def path(self) -> Path:
        """Path of the record."""
        return RECORDS / f"{self.fingerprint}.parquet"


class Trainings(NamedTuple):
    """Outcome of the requested cells, in their order."""

    runs: list[Training]
    failed: dict[str, NLAError]
    """Fingerprint -> error."""

    @property
    def done(self) -> list[Training]:
        """The runs that have their records."""
        return [run for run in self.runs if run.fingerprint not in self.failed]


@dataclass(frozen=True)
class Trainer:
    """Trains what has no record yet, and writes each record as its training ends."""

    variants: Variants
    config: RayConfig
    root: Path

    def train(self, what: str, wanted: Sequence[Cell]) -> Trainings:
        """Trains each distinct cell once, however many request it; `what` is their name in the console output."""
        runs = [Training(cell, name_of(cell, self.variants, self.root)) for cell in wanted]
        missing = {run.fingerprint: run for run in runs if not run.path.is_file()}
        there = sum(run.fingerprint not in missing for run in runs)
        say(f"{what} {workspace().name}: {len(runs)} trainings, of which {there} have their records")
        return Trainings(runs, self._train(missing) if missing else {})

    def _train(self, missing: Mapping[str, Training]) -> dict[str, NLAError]:
        """Fingerprint -> error of the trainings that failed."""
        errors: dict[str, NLAError] = {}
        with connected(self.config) as cluster, bar("study", "runs") as progress:
            say(f"full logs: {log_file()}, and Ray's in {cluster.logs}")
            results = run_all(cluster, self._tasks([*missing.values()]), self.config)
            for done, (task, result) in enumerate(results, 1):
                run = missing[task.name]
                if isinstance(result, NLAError):
                    errors[task.name] = result
                    say(f"{run.cell}: {result}")
                else:
                    record = record_of(run, result)
                    write_record(run.path, record)
                    shutil.rmtree(task.folder, ignore_errors=True)  # if it ran on this machine
                    say(f"{run.cell}: {summary(record)}")
                progress(done, len(missing))
        return errors

    def _tasks(self, missing: Sequence[Training]) -> Iterator[Task]:
        """The tasks; their data is loaded only when the next one is requested."""
        code = fingerprint({}, imported_sources(Path("nla/study/run.py"), CODE), CODE)
        for config, group in itertools.groupby(missing, lambda run: run.cell.data):
            variant = self.variants.variant(config)
            shared, train = ray.put(variant), variant.split.train
            image, classes = image_spec(train.images_NHWC), len(train.classes)
            for run in group:
                name = f"{workspace().name}-{run.fingerprint}-{code}"  # two studies may train the same at once
                folder = self.root / RUNS / name
                job = Job(training_config(run.cell.params), num_classes=classes, image=image, fingerprint=name)
                started = with_first_weights(job, self.root)[0]
                yield Task(run.fingerprint, started, shared, folder, views_of(run.cell))


def forget_trainings(root: Path) -> None:
    """Removes the records of the study in the current folder, and its checkpoints in the project `root`."""
    for record in RECORDS.glob("*.parquet"):
        record.unlink()
    ours = re.compile(rf"{re.escape(workspace().name)}-[0-9a-f]{{{DIGITS}}}-[0-9a-f]{{{DIGITS}}}")
    for folder in (root / RUNS).glob("*"):
        if ours.fullmatch(folder.name):
            shutil.rmtree(folder)


def views_of(cell: Cell) -> Views | None:
    """Augmented views over which test predictions are averaged; None in tuning, which does not use test."""
    config = section(EvaluateConfig, cell.params)
    return None if cell.setting is not None else Views(config.mirror, config.shift)


def name_of(cell: Cell, variants: Variants, root: Path) -> str:
    """Hash of the parameters, first weights and data of a training, and of how it is measured."""
    sections = {name: config.stated() for name, config in training_config(cell.params).sections.items()}
    if start := sections["model"].get("weights"):
        sections["model"]["weights"] = sha256(existing(root / start))
    views = section(EvaluateConfig, cell.params).stated(include={"mirror", "shift"})
    measured = views if cell.setting is None else None  # how test is measured, which tuning does not use
    content = {**sections, "data": variants.key(cell.data), "evaluate": measured, "defaults": DEFAULTS}
    return fingerprint(content, [], workspace())


def record_of(run: Training, result: Result) -> Record:
    """The record of a training."""
    data, progress = run.cell.data, result.progress
    return Record(
        method=run.cell.method,
        condition=run.cell.condition,
        noise_kind=data.noise.kind,
        noise_rate=data.noise.rate,
        imbalance_factor=data.imbalance_factor,
        seed=run.cell.seed,
        fingerprint=run.fingerprint,
        epochs=progress.epochs_done,
        best_epoch=progress.best_epoch,
        seconds=sum(row["seconds"] for row in progress.history),
        params={**training_config(run.cell.params).dump(), "data": data.model_dump(mode="json")},
        facts={**progress.facts, "commit": git_commit(workspace()), **result.place},
        claims=result.claims,
        valid_accuracy=[row["valid_accuracy"] for row in progress.history],
        valid_mean_accuracy=[row["valid_mean_accuracy"] for row in progress.history],
        test_accuracy=result.on_test.get("test_accuracy", []),
        test_mean_accuracy=result.on_test.get("test_mean_accuracy", []),
        best_predicted=result.best_predicted,
        last_predicted=result.last_predicted,
    )


def summary(record: Record) -> str:
    """One line on validation for the console; test results are left to the report."""
    when, minutes = f"after epoch {record.best_epoch} of {record.epochs}", record.seconds / 60
    return f"{record.reached('accuracy'):.2%} on validation {when} ({minutes:.1f} min)"
