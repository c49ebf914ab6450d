"""Stage `train`: data/{train,valid}.parquet and best.yaml -> models/, reports/plots/curves.csv, run.json.

What the stage does, in order of precedence:

1. If this run (same parameters, data and code) has finished before, its result is reused, and nothing is trained.
2. If it was interrupted, it resumes from the checkpoint of its last complete epoch (see nla.training.trainer).
3. Otherwise it trains from `model.weights`, or from scratch.

`dvc repro -sf train` deletes result and checkpoints first, and so retrains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nla.audit.softened import softened_samples
from nla.config.base import read_params, section
from nla.config.best import read_best, with_best
from nla.config.evaluate import EvaluateConfig
from nla.config.network_catalog import offering
from nla.config.ray import RayConfig
from nla.config.train import check_batch
from nla.console import say
from nla.data.loader import steps_per_epoch
from nla.data.schema import read_info
from nla.errors import ConfigError
from nla.evaluation.fitted_calibration import calibration_line
from nla.io import sha256, write_json, write_rows
from nla.models.classifier import Architecture, describe
from nla.models.saved_model import WEIGHTS, read_card
from nla.models.views import Views
from nla.models.weights import weights_path
from nla.tracking import MlflowTracker, configure, lacks_end, run_tags
from nla.tracking.run_record import RunRecord, without_tags
from nla.training.artifacts import TRAIN, VALID, Tables, data_params, export, read_tables
from nla.training.callbacks import Callback, MetricRecorder
from nla.training.checkpoint import read_progress
from nla.training.job import Job, TrainingConfig, image_spec, training_config, with_first_weights
from nla.training.local_training import train_local
from nla.training.progress_bar import progress_bar
from nla.workflow.paths import project_root
from nla.workflow.provenance import CODE as CODE_ROOT
from nla.workflow.provenance import fingerprint, imported_sources
from nla.workflow.runs import RunFolder, delete_run, run_lock
from nla.workflow.stage import log_file, run_stage

LABELS = Path("reports/audit/labels.parquet")
BEST, MODELS, CURVES, RUN = Path("best.yaml"), Path("models"), Path("reports/plots/curves.csv"), Path("run.json")
CODE = (Path("nla/training/trainer.py"), Path("nla/training/job.py"))
"""Code that determines a result: these files and all that they import. Display, tracking and distribution do not."""


@dataclass(frozen=True)
class Plan:
    """The run that the parameters and the data determine, and what is recorded with it."""

    job: Job
    tables: Tables
    params: Mapping[str, Any]
    """The validated sections that it depends on, and facts about the data."""
    tags: Mapping[str, str]
    views: Views
    """Views that the trained model predicts with; they are in its card, and change nothing in training."""

    @property
    def name(self) -> str:
        """SOURCE-LOSS-XXXXXX, for MLflow's lists."""
        return f"{self.tables.info.source}-{self.job.config.loss.name}-{self.job.fingerprint[:6]}"


def main() -> None:
    """Trains, or reuses the result of an earlier run."""
    params = searched(read_params(), read_best(BEST, "Run `dvc repro`."))
    ray = section(RayConfig, params)
    root = project_root()
    plan = make_plan(params, root, ray)
    uri = configure(root)  # before a forced run deletes anything: it fails if the store cannot be used
    with run_lock(root, plan.job.fingerprint, ray) as (run, storage):
        if run.finished:
            say(f"{run.fingerprint} was trained before: reusing the result (`dvc repro -sf train` retrains)")
            complete_tracking(plan, run, uri)
        else:
            train_tracked(plan, run, ray, storage, uri)
        write_outputs(plan, run, run.mlflow_run_id(uri))


def searched(params: Mapping[str, Any], best: Mapping[str, Any]) -> dict[str, Any]:
    """`params` with the searched keys. Raises ConfigError that names the file of a wrong value."""
    if best:
        training_config(params)  # first, so that an error in params.yaml is not blamed on the other file
        try:
            training_config(with_best(params, best), str(BEST))
        except ConfigError as error:
            raise ConfigError(str(error) if f"{BEST}:" in str(error) else f"{BEST}: {error}") from None
    return with_best(params, best)


def make_plan(params: Mapping[str, Any], root: Path, ray: RayConfig) -> Plan:
    """Reads the data, and determines the run."""
    config = training_config(params)
    fewest, most = ray.workers
    check_batch(config.train.batch_size, range(fewest, most + 1), "ray.num_workers")
    tables = read_tables(ray, root)
    softened = {}
    if config.train.soften:
        tables, softened = soften(tables), {"softened": sha256(LABELS)}
    weights = sha256(weights_path(config.model.weights, root)) if config.model.weights else None
    content = {**config.resolved(), "data": tables.data_hash, "weights": weights, **softened}
    files = {file for entry in CODE for file in imported_sources(entry, CODE_ROOT)}
    name = fingerprint(content, files, CODE_ROOT)
    tags = run_tags(CODE_ROOT, name, tables.data_hash, tables.info.corrections)
    job = Job(
        config,
        num_classes=len(tables.info.classes),
        image=image_spec(tables.split.train.images_NHWC),
        fingerprint=name,
        facts={"tags": tags},
    )
    say(summary(config, tables))
    job, line = with_first_weights(job, tables.split.train.images_NHWC, root)
    say(line)
    predicts = section(EvaluateConfig, params)
    views = Views(predicts.mirror, predicts.shift)
    return Plan(job, tables, {**config.resolved(), "data": data_params(tables.info)}, tags, views)


def soften(tables: Tables) -> Tables:
    """The tables with the distributions that the audit suggests for ambiguous training rows."""
    train, rows = softened_samples(tables.split.train, LABELS, tables.hashes[0])
    say(f"train.soften: {rows:,} of {len(train):,} rows learn the distribution that the audit suggests")
    return replace(tables, split=tables.split._replace(train=train))


def summary(config: TrainingConfig, tables: Tables) -> str:
    """One line for the console on data, length, network and loss."""
    model, loss, train = config.model, config.loss, config.train
    info, faces = tables.info, len(tables.split.train)
    network = f"{model.name} of width {model.width}" if model.name in offering("has_width") else model.name
    epochs = "1 epoch" if train.epochs == 1 else f"{train.epochs} epochs"
    return (
        f"train: {faces:,} {info.source} faces of {len(info.classes)} classes, {epochs} of "
        f"{steps_per_epoch(faces, train.batch_size)} steps of {train.batch_size} images; "
        f"{network}, loss {loss.label}"
    )


def train_tracked(plan: Plan, run: RunFolder, ray: RayConfig, storage: str, uri: str) -> None:
    """Trains and logs to MLflow; the MLflow run is closed in any case."""
    tracker = MlflowTracker(uri)
    run_id = tracker.start(plan.name, plan.params, plan.tags, run.mlflow_run_id(uri))
    run.set_mlflow_run_id(uri, run_id)
    with tracker.closing():
        for path, context in ((TRAIN, "training"), (VALID, "validation")):
            tracker.log_dataset(path, read_info(path), context)
        logs, recorder = f"MLflow run {run_id}; full logs: {log_file()}", MetricRecorder(tracker.log_epoch)
        if ray.in_process:
            train_in_process(plan, run, ray, logs, recorder)
        else:
            train_on_ray(plan, run, ray, storage, logs, recorder)
        log_result(tracker, run)


def train_in_process(plan: Plan, run: RunFolder, ray: RayConfig, logs: str, recorder: Callback) -> None:
    """Trains in this process; `logs` is a line that says where the logs are."""
    say(logs)
    with progress_bar(plan.job.config.train.epochs) as bar:
        run.save_result(train_local(plan.job, plan.tables.split, ray, run.local_checkpoints, [bar, recorder]))


def train_on_ray(plan: Plan, run: RunFolder, ray: RayConfig, storage: str, logs: str, recorder: Callback) -> None:
    """Trains on a cluster, or on a Ray that is started for this stage."""
    from nla.ray_cluster import connected  # importing Ray is slow, and only needed here
    from nla.training.ray_train import train_on

    with connected(ray) as cluster, progress_bar(plan.job.config.train.epochs) as bar:
        say(f"{logs}, and Ray's in {cluster.logs}")
        say(cluster.describe(ray))
        with train_on(cluster, plan.job, plan.tables.split, ray, storage, [bar, recorder]) as checkpoint:
            run.save_result(checkpoint)
    if storage != str(run.path.parent):  # the result is in the project now
        delete_run(storage, run.fingerprint)


def complete_tracking(plan: Plan, run: RunFolder, uri: str) -> None:
    """Logs what MLflow lacks of a finished run, because it was unreachable or the process ended too early."""
    run_id = run.mlflow_run_id(uri)
    if lacks_end(uri, run_id):
        tracker = MlflowTracker(uri, system_metrics=False)
        tracker.start(plan.name, plan.params, plan.tags, run_id)
        with tracker.closing():
            log_result(tracker, run)


def log_result(tracker: MlflowTracker, run: RunFolder) -> None:
    """Logs the result's facts, and all epochs: a killed process may not have logged its last ones."""
    progress = read_progress(run.result)
    tracker.log_params({"facts": without_tags(progress.facts)})  # first, because this raises if the store is down
    recorder = MetricRecorder(tracker.log_epoch)
    for row in progress.history:
        recorder.on_epoch_end(row)


def write_outputs(plan: Plan, run: RunFolder, run_id: str | None) -> None:
    """Writes the stage's outs from the result; run.json has the tags of the process that trained it."""
    progress = read_progress(run.result)
    export(run.result, MODELS, card(plan), plan.tables.split.train.row_N, plan.tables.split.valid)
    write_rows(CURVES, progress.history)
    record = RunRecord.of_training(run_id, run.fingerprint, plan.name, plan.params, progress.facts, progress.history)
    write_json(RUN, record.model_dump(), sealed=True)
    best = progress.history[progress.best_epoch - 1]
    say(
        f"selected epoch {progress.best_epoch}: {best['valid_accuracy']:.2%} accuracy on validation, with one view "
        "per image"
    )
    say(calibration_line(read_card(MODELS / WEIGHTS)["calibration"]))


def card(plan: Plan) -> dict[str, Any]:
    """Contents of a model's card except epoch and metrics; the network is described without being built."""
    job, info = plan.job, plan.tables.info
    network = describe(Architecture.of(job.config.model, job.num_classes), job.image)
    return {
        **network,
        "source": info.source,
        "classes": info.classes,
        "data": info.extra,
        "fingerprint": job.fingerprint,
        "views": asdict(plan.views),
    }


if __name__ == "__main__":
    run_stage(main)
