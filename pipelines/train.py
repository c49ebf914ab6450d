"""Stage `train`: data/{train,valid}.parquet and best.yaml -> models/, reports/plots/curves.csv, run.json.

An interrupted training resumes from its last epoch; the result of a finished one is reused; `dvc repro -sf train`
starts afresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nla.config.base import read_params, section
from nla.config.best import read_best, with_best
from nla.config.model import RESNETS
from nla.config.ray import RayConfig
from nla.config.train import check_batch
from nla.console import say
from nla.data.loader import steps_per_epoch
from nla.data.schema import TableInfo, read_info
from nla.io import sha256, write_json, write_rows
from nla.models.classifier import Architecture, describe
from nla.models.weights import existing
from nla.tracking import MlflowTracker, configure, lacks_end, run_tags
from nla.training.callbacks import CallbackList, Recorder
from nla.training.checkpoint import read_progress
from nla.training.job import Job, image_spec, training_sections, with_first_weights
from nla.training.launch import TRAIN, VALID, Tables, export, read_tables, train_local, training_bar
from nla.workflow.paths import project_root, workspace
from nla.workflow.provenance import fingerprint, imported_sources
from nla.workflow.runs import RunFolder, delete_run, run_lock
from nla.workflow.stage import log_file, run_stage

BEST, MODELS, CURVES, RUN = Path("best.yaml"), Path("models"), Path("reports/plots/curves.csv"), Path("run.json")
CODE = (Path("nla/training/trainer.py"), Path("nla/training/job.py"))
"""Code that determines a training: these files and all that they import. Display, tracking and distribution do not."""
DATA_FIELDS = {"image_size", "label_rule", "imbalance_factor", "noise"}
"""Parameters of `data` that MLflow shows beside those of training, to distinguish runs."""


@dataclass(frozen=True)
class Plan:
    """A training, and what is recorded with it."""

    job: Job
    tables: Tables
    params: Mapping[str, Any]
    """The validated sections that it depends on, and the facts about the data."""
    tags: Mapping[str, str]

    @property
    def name(self) -> str:
        """SOURCE-LOSS-XXXXXX, for MLflow's lists."""
        return f"{self.tables.info.source}-{self.job.loss.name}-{self.job.fingerprint[:6]}"


def main() -> None:
    """Trains, or reuses the result of an earlier training."""
    params = with_best(read_params(), read_best(BEST, "run `dvc repro`"))
    ray = section(RayConfig, params)
    root = project_root()
    plan = make_plan(params, root, ray)
    uri = configure(root)  # before a forced run removes anything: it fails where the store cannot be used
    with run_lock(root, plan.job.fingerprint, ray) as (run, storage):
        if run.finished:
            say(
                f"{run.fingerprint} was trained before: its result is handed over (`dvc repro -sf train` trains afresh)"
            )
            catch_up(plan, run, uri)
        else:
            train_tracked(plan, run, ray, storage, uri)
        hand_over(plan, run, run.mlflow_run_id(uri))


def make_plan(params: Mapping[str, Any], root: Path, ray: RayConfig) -> Plan:
    """Reads the data, and determines the training."""
    sections = training_sections(params)
    fewest, most = ray.workers
    check_batch(sections.train.batch_size, range(fewest, most + 1), "ray.num_workers")
    tables = read_tables(ray, root)
    info, train = tables.info, tables.split.train
    checked = sections.dump()
    start = sections.model.weights
    content = {**checked, "data": tables.data_hash, "weights": sha256(existing(root / start)) if start else None}
    here = workspace()
    name = fingerprint(content, {file for entry in CODE for file in imported_sources(entry, here)}, here)
    tags = run_tags(here, name, tables.data_hash)
    image = image_spec(train.images_NHWC)
    job = Job(*sections, num_classes=len(info.classes), image=image, fingerprint=name, facts={"tags": tags})
    ours = job.model.name in RESNETS  # timm's have no width
    network = f"{job.model.name} of width {job.model.width}" if ours else job.model.name
    variant = f" ({job.loss.variant})" if job.loss.name == "nla" else ""  # plain cross-entropy has none
    say(
        f"train: {len(train):,} {info.source} faces of {len(info.classes)} classes, {job.train.epochs} epochs of "
        f"{steps_per_epoch(len(train), job.train.batch_size)} steps of {job.train.batch_size} images; "
        f"{network}, loss {job.loss.name}{variant}"
    )
    job, line = with_first_weights(job, root)
    say(line)
    return Plan(job, tables, {**checked, "data": shown_data(info)}, tags)


def shown_data(info: TableInfo) -> dict[str, Any]:
    """Facts about the data, from the table: params.yaml may have changed since stage `prepare` wrote it."""
    made = info.preparation
    return {"source": info.source} | (made.model_dump(include=DATA_FIELDS) if made else {})


def train_tracked(plan: Plan, run: RunFolder, ray: RayConfig, storage: str, uri: str) -> None:
    """Trains and logs to MLflow; the run is closed in any case."""
    tracker = MlflowTracker(uri)
    run_id = tracker.start(plan.name, plan.params, plan.tags, run.mlflow_run_id(uri))
    run.set_mlflow_run_id(uri, run_id)
    with tracker.closing():
        for path, context in ((TRAIN, "training"), (VALID, "validation")):
            tracker.log_dataset(path, read_info(path), context)
        line, recorder = f"MLflow run {run_id}; full logs: {log_file()}", Recorder(tracker.log_epoch)
        if ray.in_process:
            alone(plan, run, ray, line, recorder)
        else:
            on_ray(plan, run, ray, storage, line, recorder)
        tell(tracker, run)


def alone(plan: Plan, run: RunFolder, ray: RayConfig, line: str, recorder: Recorder) -> None:
    """Trains in this process."""
    say(line)
    with training_bar(plan.job.train.epochs) as bar:
        run.save_result(
            train_local(plan.job, plan.tables.split, ray, run.local_checkpoints, CallbackList(bar, recorder))
        )


def on_ray(plan: Plan, run: RunFolder, ray: RayConfig, storage: str, line: str, recorder: Recorder) -> None:
    """Trains on a cluster, or on a Ray started for this stage."""
    from nla.ray_cluster import connected  # Ray's import is slow, and not needed to train here or reuse a result
    from nla.training.ray_train import train_on

    with connected(ray) as cluster, training_bar(plan.job.train.epochs) as bar:
        say(f"{line}, and Ray's in {cluster.logs}")
        say(cluster.describe(ray))
        with train_on(cluster, plan.job, plan.tables.split, ray, storage, CallbackList(bar, recorder)) as checkpoint:
            run.save_result(checkpoint)
    if storage != str(run.path.parent):  # the result is in the project now
        delete_run(storage, run.fingerprint)


def catch_up(plan: Plan, run: RunFolder, uri: str) -> None:
    """Logs to MLflow what it lacks of a finished training: it was unreachable, or the process ended too early."""
    run_id = run.mlflow_run_id(uri)
    if lacks_end(uri, run_id):
        tracker = MlflowTracker(uri, system_metrics=False)
        tracker.start(plan.name, plan.params, plan.tags, run_id)
        with tracker.closing():
            tell(tracker, run)


def tell(tracker: MlflowTracker, run: RunFolder) -> None:
    """Logs the result's facts and its epochs, some of which a killed process may not have logged."""
    progress = read_progress(run.result)
    tracker.log_params({"facts": without_tags(progress.facts)})  # first: if the store is unreachable, this raises
    recorder = Recorder(tracker.log_epoch)
    for row in progress.history:
        recorder.epoch(row)


def without_tags(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a training that are not already tags of its MLflow run."""
    return {name: fact for name, fact in facts.items() if name != "tags"}


def hand_over(plan: Plan, run: RunFolder, run_id: str | None) -> None:
    """Writes the stage's outs from the result, with the tags of the training that made it."""
    progress = read_progress(run.result)
    export(run.result, MODELS, card(plan), plan.tables.split.train.row_N)
    write_rows(CURVES, progress.history)
    names = {"mlflow_run_id": run_id, "fingerprint": run.fingerprint, "name": plan.name}
    facts = without_tags(progress.facts)
    known = {"params": plan.params, "tags": progress.facts["tags"], "facts": facts, "history": progress.history}
    write_json(RUN, {**names, **known})
    best = progress.history[progress.best_epoch - 1]
    say(
        f"kept: epoch {progress.best_epoch} with {best['valid_accuracy']:.2%} accuracy on validation, one view an image"
    )


def card(plan: Plan) -> dict[str, Any]:
    """Contents of a model's card except epoch and metrics; the network is described without being built."""
    job, info = plan.job, plan.tables.info
    network = describe(Architecture.of(job.model, job.num_classes), job.image)
    known = {"source": info.source, "classes": info.classes, "data": info.extra, "fingerprint": job.fingerprint}
    return {**network, **known}


if __name__ == "__main__":
    run_stage(main)
