"""Stage `audit`: data/{train,valid}.parquet -> reports/audit/{labels.parquet,summary.json,figures/,index.html}.

Each training label is scored by a model that was trained without it, and gets a verdict; those of validation, and of
test with `audit.test`, are scored by all models. With `audit.folds: 0` the table is empty, and nothing else happens.

An interrupted audit resumes, and finished folds are reused; `dvc repro -sf audit` starts over.

The slow imports (Ray, PyTorch, MLflow, Matplotlib) are in the functions that need them, as in the stage `tune`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nla.audit import outputs
from nla.audit.faces import faces_to_review
from nla.audit.outputs import write_outputs
from nla.audit.page import write_page
from nla.audit.table import AuditInfo, labels_schema
from nla.config.audit import AuditConfig
from nla.config.base import merge, read_params, section
from nla.config.ray import RayConfig
from nla.console import say
from nla.data.schema import TableInfo, read_info
from nla.io import sha256
from nla.workflow.paths import project_root, workspace
from nla.workflow.provenance import fingerprint, imported_sources
from nla.workflow.stage import log_file, run_stage

if TYPE_CHECKING:
    from nla.audit.fold import AuditData, FoldProbabilities
    from nla.audit.splits import LabelledSplit
    from nla.tracking import MlflowTracker
    from nla.training.job import Job
    from nla.workflow.runs import RunFolder

REPORTS = Path("reports/audit")
LABELS, SUMMARY, FIGURES = REPORTS / outputs.LABELS, REPORTS / outputs.SUMMARY, REPORTS / outputs.FIGURES
PAGE = REPORTS / outputs.PAGE
FACES = Path("data/faces.parquet")
CODE = (Path("nla/audit/fold.py"), Path("nla/audit/folds.py"), Path("nla/audit/duplicates.py"))
"""Code that determines the probabilities: these files and all that they import. Scores and display do not."""
FOLD_FIELDS = {"folds", "epochs", "test", "seed"}
"""Parameters of `audit` that determine the probabilities."""


@dataclass(frozen=True)
class Plan:
    """An audit before it runs."""

    settings: AuditConfig
    splits: list[LabelledSplit]
    """The training split first."""
    info: TableInfo
    """Of the training table."""
    hashes: Mapping[str, str]
    """Split -> SHA-256 of its table."""
    group_G: Any
    """Position of the first near-identical image of each row of all splits, int64 [G]."""
    data: AuditData
    job: Job

    @property
    def data_hash(self) -> str:
        """All hashes, shortened for a tag."""
        return "-".join(sha[:16] for sha in self.hashes.values())


def main() -> None:
    """Audits the labels, or passes through."""
    params = read_params()
    settings = section(AuditConfig, params)
    if settings.folds > 0:
        audit(params, settings)
        return
    say("no audit: audit.folds is 0")
    info = read_info(split_table("train"))
    facts = AuditInfo(source=info.source, classes=info.classes, folds=0, epochs=0, fingerprint="", data={})
    write_outputs(REPORTS, labels_schema(info.classes).empty_table(), facts, {"folds": 0}, {})
    write_page(PAGE, faces_to_review(LABELS))


def split_table(name: str) -> Path:
    """The table of a split."""
    return Path(f"data/{name}.parquet")


def audit(params: Mapping[str, Any], settings: AuditConfig) -> None:
    """Runs the folds, scores the labels, logs both to MLflow, and writes the outputs."""
    from nla.audit.report import headline
    from nla.tracking import configure
    from nla.workflow.runs import run_lock

    ray, root = section(RayConfig, params), project_root()
    plan = make_plan(params, settings, ray, root)
    uri = configure(root)  # before a forced run removes anything: it fails if the store cannot be used
    with run_lock(root, plan.job.fingerprint, ray) as (run, _), tracked(plan, run, uri) as tracker:
        report = write_results(plan, run_folds(plan, run, ray))
        say(f"{headline(report)}. See {LABELS}.")
        tracker.log_metrics({"audit": report}, settings.epochs)
        for path in (LABELS, SUMMARY, PAGE):
            tracker.log_artifact(path, "audit")
        for path in sorted(FIGURES.iterdir()):
            tracker.log_artifact(path, "figures")


def make_plan(params: Mapping[str, Any], settings: AuditConfig, ray: RayConfig, root: Path) -> Plan:
    """Reads the data, assigns the folds, and names the audit by a fingerprint of all that determines its models."""
    import numpy as np

    from nla.audit.duplicates import difference_hash, near_identical
    from nla.audit.fold import AuditData
    from nla.audit.folds import assign_folds
    from nla.audit.splits import load_split
    from nla.models.weights import weights_path
    from nla.training.artifacts import require_alike
    from nla.training.job import Job, image_spec, training_config, with_first_weights
    from nla.workflow.runs import IMAGES

    config = training_config(merge(params, {"train": {"epochs": settings.epochs, "patience": 0, "soften": False}}))
    names = ("train", "valid", "test") if settings.test else ("train", "valid")
    splits = [load_split(name, split_table(name), FACES, ray.image_bytes, root / IMAGES) for name in names]
    train, others = splits[0].samples, [split.samples.images_NHWC for split in splits[1:]]
    require_alike(train, splits[1].samples)
    hashes = {name: sha256(split_table(name)) for name in names}
    weights = sha256(weights_path(config.model.weights, root)) if config.model.weights else None
    content = {
        **config.resolved(),
        "audit": settings.model_dump(include=FOLD_FIELDS),
        "data": hashes,
        "weights": weights,
    }
    code = workspace()
    name = fingerprint(content, {file for entry in CODE for file in imported_sources(entry, code)}, code)
    group_G = near_identical(np.concatenate([difference_hash(images) for images in (train.images_NHWC, *others)]))
    fold_N = assign_folds(train.label_N, group_G[: len(train)], settings.folds, settings.seed)
    job = Job(config, num_classes=len(train.classes), image=image_spec(train.images_NHWC), fingerprint=name)
    say(
        f"audit: {settings.folds} folds of {len(train):,} {train.source} faces, {settings.epochs} epochs each; "
        f"loss {config.loss.label}"
    )
    job, line = with_first_weights(job, train.images_NHWC, root)
    say(line)
    info = read_info(split_table("train"))
    return Plan(settings, splits, info, hashes, group_G, AuditData(train, fold_N, tuple(others)), job)


@contextlib.contextmanager
def tracked(plan: Plan, run: RunFolder, uri: str) -> Iterator[MlflowTracker]:
    """The audit's MLflow run, reopened if the audit resumes."""
    from nla.tracking import MlflowTracker, run_tags
    from nla.training.artifacts import data_params

    name = plan.job.fingerprint
    params = {
        **plan.job.config.resolved(),
        "audit": plan.settings.model_dump(mode="json"),
        "data": data_params(plan.info),
    }
    tracker = MlflowTracker(uri)
    tags = run_tags(workspace(), name, plan.data_hash, plan.info.corrections)
    run_id = tracker.start(f"{plan.info.source}-audit-{name[:6]}", params, tags, run.mlflow_run_id(uri))
    run.set_mlflow_run_id(uri, run_id)
    with tracker.closing():
        for split in plan.splits:
            table = split_table(split.name)
            tracker.log_dataset(table, read_info(table), split.name)
        say(f"MLflow run {run_id}; full logs: {log_file()}")
        yield tracker


def run_folds(plan: Plan, run: RunFolder, ray: RayConfig) -> list[FoldProbabilities]:
    """The probabilities of each fold: in this process, on a cluster, or on a Ray that is started for this stage."""
    from nla.audit.fold_results import fold_results, in_this_process

    if ray.in_process:
        return fold_results(plan.job, plan.data, run.path, in_this_process(ray))
    from nla.audit.ray_folds import on_ray
    from nla.ray_cluster import connected

    with connected(ray) as cluster:
        return fold_results(plan.job, plan.data, run.path, on_ray(cluster, ray))


def write_results(plan: Plan, results: list[FoldProbabilities]) -> dict[str, Any]:
    """Scores the labels and writes the outs; returns the summary."""
    from nla.audit.fold_results import probabilities_of_splits
    from nla.audit.plots import audit_figures
    from nla.audit.report import audit_splits, labels_table, summary
    from nla.audit.thumbnails import thumbnails

    settings = plan.settings
    p_of_splits = probabilities_of_splits(results, plan.data.fold_N, [len(split) for split in plan.splits[1:]])
    audited = audit_splits(plan.splits, p_of_splits, plan.data.fold_N, settings.seed)
    table = labels_table(audited, plan.group_G)
    report = summary(audited, plan.group_G, settings.folds)
    facts = AuditInfo(
        source=plan.info.source,
        classes=plan.info.classes,
        folds=settings.folds,
        epochs=settings.epochs,
        fingerprint=plan.job.fingerprint,
        data=dict(plan.hashes),
    )
    write_outputs(REPORTS, table, facts, report, audit_figures(table, report, settings.seed))
    faces = faces_to_review(LABELS, settings.faces)
    tables = {split.name: split_table(split.name) for split in plan.splits}
    write_page(PAGE, faces, thumbnails(faces, tables) if settings.thumbnails else ())
    return report


if __name__ == "__main__":
    run_stage(main)
