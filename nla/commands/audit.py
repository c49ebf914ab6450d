"""`nla audit`: which labels of a folder or list are probably wrong, without a project.

It trains models on the images themselves, each without a fold that it then scores, as the stage `audit` does.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nla
from nla.audit.duplicates import difference_hash, near_identical
from nla.audit.faces import faces_to_review
from nla.audit.fold import AuditData
from nla.audit.fold_results import fold_results, in_this_process, probabilities_of_splits
from nla.audit.folds import assign_folds
from nla.audit.outputs import LABELS, PAGE, write_outputs
from nla.audit.page import write_page
from nla.audit.plots import audit_figures
from nla.audit.report import audit_splits, headline, labels_table, summary
from nla.audit.splits import LabelledSplit
from nla.audit.table import AuditInfo
from nla.audit.thumbnails import thumbnails_of
from nla.commands.labels_list import ReadImages, open_labels, read_images
from nla.commands.parser import Parser
from nla.config.audit import AuditConfig
from nla.config.base import merge, read_params, section
from nla.config.ray import RayConfig
from nla.console import say
from nla.data.samples import Samples
from nla.errors import CommandError, DataError
from nla.limits import LEAST_SIDE, MOST_SIDE
from nla.text import shown
from nla.training.job import Job, TrainingConfig, image_spec, training_config, with_first_weights
from nla.workflow.provenance import fingerprint

UNFINISHED = "unfinished"
"""Folder of checkpoints in that of the results, until the audit is finished."""
SOURCE = "custom"


def main(argv: Sequence[str]) -> None:
    """Writes labels.parquet, summary.json, figures/ and index.html into a folder, and prints what was found.

    Raises:
        CommandError: there are fewer than two folds, or images are too small or too large.
        DataError: the folder or list cannot be used, or has a single class.
        ConfigError: an option or parameter is out of its range.
    """
    options = _parser().parse_args(argv)
    if options.folds < 2:
        raise CommandError(f"--folds: must be at least 2 (got {options.folds}).")
    if not LEAST_SIDE <= options.size <= MOST_SIDE:
        raise CommandError(f"--size: must be {LEAST_SIDE} to {MOST_SIDE} pixels (got {options.size}).")
    settings = section(AuditConfig, {"audit": {"folds": options.folds, "epochs": options.epochs}})
    params = read_params(options.params) if options.params else {}
    images = read_images(open_labels(options.labels), options.size, options.color, SOURCE)
    samples = images.samples
    if len(samples.classes) < 2:
        raise DataError(f"{shown(str(options.labels))}: has only the class {samples.classes[0]}. Provide two or more.")
    config = _config(params, options.loss, settings, len(samples))
    group_N = near_identical(difference_hash(samples.images_NHWC))
    fold_N = assign_folds(samples.label_N, group_N, settings.folds, settings.seed)
    say(
        f"audit: {settings.folds} folds of {len(samples):,} images of {len(samples.classes)} classes, "
        f"{settings.epochs} epochs each; loss {config.loss.label}"
    )
    job = _job(config, images, settings)
    run = options.out / UNFINISHED / job.fingerprint
    ray = section(RayConfig, merge(params, {"ray": {"num_workers": 0}}))
    results = fold_results(job, AuditData(samples, fold_N, ()), run, in_this_process(ray))
    split = LabelledSplit("train", samples, images.annotations, images.path_N, images.pixels_N)
    audited = audit_splits([split], probabilities_of_splits(results, fold_N, []), fold_N, settings.seed)
    table, report = labels_table(audited, group_N), summary(audited, group_N, settings.folds)
    info = AuditInfo(
        source=SOURCE,
        classes=samples.classes,
        folds=settings.folds,
        epochs=settings.epochs,
        fingerprint=job.fingerprint,
        data={"train": _digest(images)},
    )
    write_outputs(options.out, table, info, report, audit_figures(table, report, settings.seed))
    faces = faces_to_review(options.out / LABELS)
    write_page(options.out / PAGE, faces, thumbnails_of(faces, samples.images_NHWC, samples.row_N))
    shutil.rmtree(run)
    with contextlib.suppress(OSError):  # another audit is unfinished there, or it is a folder of the user
        run.parent.rmdir()
    say(f"{headline(report)}. See {options.out / LABELS}, and review the faces in {options.out / PAGE}.")


def _parser() -> Parser:
    parser = Parser("nla audit", description="Which labels are probably wrong, by models that have not seen them.")
    add, text = parser.add_argument, "a folder with a subfolder of images per class, or a CSV list of image and label"
    add("labels", type=Path, metavar="FOLDER", help=text)
    add("--out", type=Path, default="audited", help="the folder for the results (%(default)s)")
    add("--folds", type=int, default=5, help="models, each trained without one fold, which it scores (%(default)s)")
    add("--epochs", type=int, default=12, help="epochs of each model (%(default)s)")
    add("--loss", default="ce", help="the training method (%(default)s)")
    add("--size", type=int, default=48, help="side of the images in training, in pixels (%(default)s)")
    add("--color", choices=("grey", "rgb"), default="grey", help="colour of the images in training (%(default)s)")
    add("--params", type=Path, metavar="FILE", help="a params.yaml, for its model, augment, train and ray")
    return parser


def _config(params: Mapping[str, Any], loss: str, settings: AuditConfig, rows: int) -> TrainingConfig:
    """The training of a fold. A batch that is larger than what a small set leaves to train on is lowered to half."""
    chosen = {**params, "loss": {"name": loss}}
    config = training_config(merge(chosen, {"train": {"epochs": settings.epochs, "patience": 0, "soften": False}}))
    most = max(2, rows * (settings.folds - 1) // settings.folds // 2)
    return training_config(
        merge(chosen, {"train": {**config.train.stated(), "batch_size": min(config.train.batch_size, most)}})
    )


def _job(config: TrainingConfig, images: ReadImages, settings: AuditConfig) -> Job:
    """The job of each fold, named by parameters, images, labels and version, so that only the same one resumes."""
    samples: Samples = images.samples
    content = {**config.resolved(), "audit": settings.model_dump(), "data": _digest(images), "version": nla.__version__}
    spec = image_spec(samples.images_NHWC)
    job = Job(config, num_classes=len(samples.classes), image=spec, fingerprint=fingerprint(content, [], Path()))
    job, line = with_first_weights(job, samples.images_NHWC, Path.cwd())
    say(line)
    return job


def _digest(images: ReadImages) -> str:
    """Hash of the images at training size and of their labels."""
    digest = hashlib.sha256(images.samples.images_NHWC.tobytes())
    digest.update(images.samples.label_N.tobytes())
    return digest.hexdigest()
