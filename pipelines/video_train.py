"""Stage `sequence` of video/: data/labels.parquet and features/ -> sequence/, sequence.json, and a curve.

A run with the same parameters, data and code that has finished before is reused, one that was interrupted resumes.
`dvc repro -sf sequence` retrains.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nla.config.base import read_params, section
from nla.config.ray import RayConfig
from nla.config.sequence import SequenceConfig
from nla.console import say
from nla.data.positions_table import PositionsTable, write_positions
from nla.data.schema import read_info
from nla.evaluation.fitted_calibration import calibration_line
from nla.io import read_json_as, sha256, write_json, write_rows
from nla.methods import resolved_loss
from nla.models.saved_model import WEIGHTS, load_state
from nla.tracking import MlflowTracker, configure, run_tags
from nla.tracking.run_record import RunRecord, without_tags
from nla.training.callbacks import Callback, MetricRecorder
from nla.training.checkpoint import read_group, read_progress
from nla.training.local_training import run_local
from nla.training.progress_bar import progress_bar
from nla.video.calibration import fit_sequence_calibration
from nla.video.features import INDEX, FeatureIndex
from nla.video.models import SequenceArchitecture, SequenceClassifier
from nla.video.saved_model import save_sequence_model
from nla.video.sequences import Sequences, check_workers, read_sequences
from nla.video.trainer import ClipJob, clip_trainer
from nla.workflow.paths import project_root
from nla.workflow.provenance import CODE, fingerprint, imported_sources
from nla.workflow.runs import RunFolder, delete_run, run_lock
from nla.workflow.stage import log_file, run_stage

LABELS, FEATURES, MODELS = Path("data/labels.parquet"), Path("features"), Path("sequence")
CURVES, RUN = Path("reports/plots/sequence.csv"), Path("sequence.json")
ENTRY = Path("nla/video/trainer.py")
"""Code that determines a result: this file, and all that it imports."""


@dataclass(frozen=True)
class Plan:
    """The run that the parameters and the data determine."""

    job: ClipJob
    splits: Mapping[str, Sequences]
    index: FeatureIndex
    params: Mapping[str, Any]
    tags: Mapping[str, str]

    @property
    def data(self) -> tuple[Sequences, Sequences]:
        """What training sees."""
        return self.splits["train"], self.splits["valid"]

    @property
    def name(self) -> str:
        """SOURCE-sequence-LOSS-XXXXXX, for MLflow's lists."""
        source = self.splits["train"].source
        return f"{source}-sequence-{self.job.config.loss.name}-{self.job.fingerprint[:6]}"


def main() -> None:
    """Trains, or reuses the result of an earlier run."""
    params = read_params()
    ray, root = section(RayConfig, params), project_root()
    plan = make_plan(section(SequenceConfig, params), ray)
    uri = configure(root)
    with run_lock(root, plan.job.fingerprint, ray) as (run, storage):
        if run.finished:
            say(f"{run.fingerprint} was trained before: reusing the result (`dvc repro -sf sequence` retrains)")
        else:
            train_tracked(plan, run, ray, storage, uri)
        write_outputs(plan, run, run.mlflow_run_id(uri))


def make_plan(config: SequenceConfig, ray: RayConfig) -> Plan:
    """Reads the data, and determines the run. Raises ConfigError if a batch cannot be divided among the workers."""
    splits, index = read_sequences(LABELS, FEATURES), read_json_as(FEATURES / INDEX, FeatureIndex)
    info, hashes = read_info(LABELS), {"labels": sha256(LABELS), "features": index.files}
    resolved = {**config.model_dump(mode="json"), "loss": resolved_loss(config.loss)}
    name = fingerprint({"sequence": resolved, **hashes}, imported_sources(ENTRY, CODE), CODE)
    tags = run_tags(CODE, name, f"{hashes['labels'][:16]}-{index.key}")
    train = splits["train"]
    fewest, most = ray.workers
    for workers in range(fewest, most + 1):
        check_workers(train, config, workers)
    data = f"{train.frames:,} {train.source} frames of {len(train.videos):,} videos"
    network = f"{config.model.name} of width {config.model.width}, loss {config.loss.label}"
    say(f"sequence: {data}, {config.train.epochs} epochs; {network}")
    params = {"sequence": resolved, "clips": info.extra, "frame_model": index.model_sha256[:16]}
    return Plan(ClipJob(config, name, {"tags": tags}), splits, index, params, tags)


def train_tracked(plan: Plan, run: RunFolder, ray: RayConfig, storage: str, uri: str) -> None:
    """Trains and logs to MLflow; the MLflow run is closed in any case."""
    tracker = MlflowTracker(uri)
    run_id = tracker.start(plan.name, plan.params, plan.tags, run.mlflow_run_id(uri))
    run.set_mlflow_run_id(uri, run_id)
    with tracker.closing():
        logs, recorder = f"MLflow run {run_id}; full logs: {log_file()}", MetricRecorder(tracker.log_epoch)
        if ray.in_process:
            train_in_process(plan, run, ray, logs, recorder)
        else:
            train_on_ray(plan, run, ray, storage, logs, recorder)
        progress = read_progress(run.result)
        tracker.log_params({"facts": without_tags(progress.facts)})
        for row in progress.history:
            recorder.on_epoch_end(row)


def train_in_process(plan: Plan, run: RunFolder, ray: RayConfig, logs: str, recorder: Callback) -> None:
    """Trains in this process; `logs` is a line that says where the logs are."""
    say(logs)
    make = functools.partial(clip_trainer, plan.job, plan.data)
    with progress_bar(plan.job.config.train.epochs, "clips") as bar:
        run.save_result(run_local(make, ray, run.local_checkpoints, [bar, recorder]))


def train_on_ray(plan: Plan, run: RunFolder, ray: RayConfig, storage: str, logs: str, recorder: Callback) -> None:
    """Trains on a cluster, or on a Ray that is started for this stage."""
    from nla.ray_cluster import connected  # importing Ray is slow, and only needed here
    from nla.training.ray_train import run_on

    make = functools.partial(clip_trainer, plan.job)
    with connected(ray) as cluster, progress_bar(plan.job.config.train.epochs, "clips") as bar:
        say(f"{logs}, and Ray's in {cluster.logs}")
        say(cluster.describe(ray))
        with run_on(cluster, make, plan.data, run.fingerprint, ray, storage, [bar, recorder]) as checkpoint:
            run.save_result(checkpoint)
    if storage != str(run.path.parent):  # the result is in the project now
        delete_run(storage, run.fingerprint)


def write_outputs(plan: Plan, run: RunFolder, run_id: str | None) -> None:
    """Writes the stage's outs from the result."""
    progress, config, train = read_progress(run.result), plan.job.config, plan.splits["train"]
    best = progress.history[progress.best_epoch - 1]
    architecture = SequenceArchitecture.of(config.model, plan.index.features, len(train.classes))
    model, weights = SequenceClassifier(architecture), read_group(run.result, "best")
    load_state(model, weights, run.result)
    calibration = asdict(fit_sequence_calibration(model, plan.splits["valid"], config))
    card = {
        "architecture": asdict(architecture),
        "frame_model_sha256": plan.index.model_sha256,
        "source": train.source,
        "classes": list(train.classes),
        "window": config.window,
        "overlap": config.overlap,
        "fingerprint": run.fingerprint,
        "epoch": progress.best_epoch,
        "metrics": best,
        "facts": progress.facts,
        "calibration": calibration,
    }
    save_sequence_model(MODELS / WEIGHTS, weights, card)
    positions = {moment: tensor.numpy() for moment, tensor in read_group(run.result, "positions").items()}
    row_N = np.concatenate([video.row_T for video in train.videos])
    table = PositionsTable(row_N, positions, progress.moments, progress.epochs)
    write_positions(MODELS / "positions.parquet", table)
    write_rows(CURVES, progress.history)
    record = RunRecord.of_training(run_id, run.fingerprint, plan.name, plan.params, progress.facts, progress.history)
    write_json(RUN, record.model_dump(), sealed=True)
    say(f"selected epoch {progress.best_epoch}: macro-F1 {best['valid_macro_f1']:.4f} on validation")
    say(calibration_line(calibration))


if __name__ == "__main__":
    run_stage(main)
