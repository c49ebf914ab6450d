"""Stage of a study, run in its folder: grid.yaml, params.yaml and data/faces.parquet -> records/, runs.json.

An interrupted study goes on; a training whose record is there is not repeated (`dvc repro -f` repeats all). A record
holds for its parameters and data: code may have changed since, and stands in it by its commit.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray

from nla.cluster import connected
from nla.config.base import read_params, section
from nla.config.evaluate import EvaluateConfig
from nla.config.ray import RayConfig
from nla.console import bar, log_file, run_stage, say
from nla.errors import NLAError, TrainingError
from nla.machine import machine, versions
from nla.paths import project_root, workspace
from nla.provenance import fingerprint, git_commit, imported_sources
from nla.records import write_json
from nla.runs import RUNS
from nla.study.grid import Cell, cells, read_grid
from nla.study.record import Record, read_record, write_record
from nla.study.run import Result
from nla.study.runner import Task, run_all
from nla.study.track import MlflowStudy
from nla.study.variants import Variants
from nla.tracking import configure, run_tags
from nla.training.job import Job, image_spec, training_sections
from nla.training.start import with_first_weights
from nla.workflow import forced

CODE = Path(__file__).parents[1]
FACES, GRID, RECORDS, MANIFEST = Path("data/faces.parquet"), Path("grid.yaml"), Path("records"), Path("runs.json")


class Run(NamedTuple):
    """A cell of the grid, and the name of its record."""

    cell: Cell
    fingerprint: str

    @property
    def path(self) -> Path:
        """Of the record."""
        return RECORDS / f"{self.fingerprint}.parquet"


def main() -> None:
    """Runs what is missing, and tells MLflow of what it has not heard."""
    params, grid, root = read_params(), read_grid(GRID), project_root()
    config = section(RayConfig, params)
    variants = Variants(FACES, root / RUNS / "study-data", config.image_bytes)
    runs = [Run(cell, name_of(cell, variants)) for cell in cells(grid, params)]
    missing = [run for run in runs if forced() or not run.path.is_file()]
    say(f"study {workspace().name}: {len(runs)} trainings, of which {len(runs) - len(missing)} have their records")
    failed = train_all(missing, variants, config, params, root) if missing else []
    done = [run for run in runs if run not in failed]
    write_json(MANIFEST, {"reference": grid.reference, "runs": [row_of(run) for run in done]})
    take_down(done, root)
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(runs)} trainings failed: {', '.join(str(run.cell) for run in failed)}"
        )


def name_of(cell: Cell, variants: Variants) -> str:
    """Hash of the parameters and the data of a training, and of how it is measured."""
    sections = {name: config.model_dump(mode="json") for name, config in training_sections(cell.params).items()}
    measured = {"mirror": section(EvaluateConfig, cell.params).mirror}
    return fingerprint({**sections, "data": variants.key(cell.data), "evaluate": measured}, [], workspace())


def row_of(run: Run) -> dict[str, Any]:
    """What the manifest says of a training."""
    return {
        "method": run.cell.method,
        "condition": run.cell.condition,
        "seed": run.cell.seed,
        "record": run.fingerprint,
    }


def train_all(
    missing: Sequence[Run], variants: Variants, config: RayConfig, params: Mapping[str, Any], root: Path
) -> list[Run]:
    """Trains and writes records as they come; gives those that failed."""
    by_name = {run.fingerprint: run for run in missing}
    failed, mirror = list[Run](), section(EvaluateConfig, params).mirror
    with connected(config) as cluster, bar("study", "runs") as progress:
        say(f"full logs: {log_file()}, and Ray's in {cluster.logs}")
        results = run_all(cluster, tasks(missing, variants, root), config, mirror)
        for done, (task, result) in enumerate(results, 1):
            run = by_name[task.name]
            if isinstance(result, NLAError):
                failed.append(run)
                say(f"{run.cell}: {result}")
            else:
                record = record_of(run, task.job, result)
                write_record(run.path, record)
                shutil.rmtree(task.folder, ignore_errors=True)  # where it ran on this machine
                say(summary(record))
            progress(done, len(missing))
    return failed


def tasks(missing: Sequence[Run], variants: Variants, root: Path) -> Iterator[Task]:
    """What is to be trained, its data read when it is asked for."""
    code = fingerprint({}, imported_sources(Path("nla/study/run.py"), CODE), CODE)
    for config, group in itertools.groupby(missing, lambda run: run.cell.data):
        variant = variants.variant(config)
        shared, train = ray.put(variant), variant.split.train
        image, classes = image_spec(train.images_NHWC), len(train.classes)
        for run in group:
            name = f"{run.fingerprint}-{code}"
            if forced():
                shutil.rmtree(root / RUNS / name, ignore_errors=True)
            job = Job(**training_sections(run.cell.params), num_classes=classes, image=image, fingerprint=name)
            yield Task(run.fingerprint, with_first_weights(job, root)[0], shared, root / RUNS / name)


def record_of(run: Run, job: Job, result: Result) -> Record:
    """What is kept of a training."""
    data, progress = run.cell.data, result.progress
    sections = {name: getattr(job, name).model_dump(mode="json") for name in ("model", "augment", "loss", "train")}
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
        params={**sections, "data": data.model_dump(mode="json")},
        facts={**progress.facts, "commit": git_commit(workspace()), "machine": machine(), "versions": versions()},
        claims=result.claims,
        valid_accuracy=[row["valid_accuracy"] for row in progress.history],
        valid_mean_accuracy=[row["valid_mean_accuracy"] for row in progress.history],
        test_accuracy=result.on_test["test_accuracy"],
        test_mean_accuracy=result.on_test["test_mean_accuracy"],
        best_predicted=result.best_predicted,
        last_predicted=result.last_predicted,
    )


def summary(record: Record) -> str:
    """A line for a person; what is said of test is for later."""
    valid = record.valid_accuracy[record.best_epoch - 1]
    return (
        f"{record.method}, {record.condition}, seed {record.seed}: {valid:.2%} on validation after epoch "
        f"{record.best_epoch} of {record.epochs} ({record.seconds / 60:.1f} min)"
    )


def take_down(done: Sequence[Run], root: Path) -> None:
    """The trainings that this MLflow store does not have yet, under the study's own run."""
    study = MlflowStudy(configure(root), workspace().name)
    tags = run_tags(workspace(), "", "")
    with study.opened(tags):
        for run in done:
            study.take_down(read_record(run.path), tags)


if __name__ == "__main__":
    run_stage(main)
