"""`nla measure`: evaluates a model on another labelled set, matching classes by name.

Legend: N images that are measured, M classes that metrics cover.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nla.commands.arguments import add_model
from nla.commands.image_inputs import none_readable_error, predict_batches, report_unread, report_unreadable
from nla.commands.labelled_set import NONE, ClassMatching, LabelledImage, LabelledSet, match_classes, open_set
from nla.commands.parser import Parser
from nla.config.evaluate import EvaluateConfig
from nla.console import bar, say
from nla.data.problems import Problem
from nla.errors import CommandError, DataError
from nla.evaluation import metrics
from nla.evaluation.confusion import confusion
from nla.evaluation.plots import confusion_matrix
from nla.evaluation.tables import with_predictions
from nla.io import write_json, write_table
from nla.models.default_model import chosen_model
from nla.models.saved_model import read_card, weights_file
from nla.plotting import write_figure
from nla.serving.predictor import Predictor
from nla.text import shown


@dataclass(frozen=True)
class Predicted:
    """The readable images with their predictions."""

    images: list[LabelledImage]
    label_N: np.ndarray
    p_NM: np.ndarray
    """Before calibration, as in reports/predictions/."""


def main(argv: Sequence[str]) -> None:
    """Writes metrics.json, predictions.parquet and confusion.png into a folder, and prints the main metrics.

    Raises:
        DataError: the set cannot be used, or none of its images has a class of the model.
        CommandError: --map maps a class to two others.
        WeightsError: the model cannot be loaded.
    """
    options = _parser().parse_args(argv)
    labelled, model = open_set(options.set), chosen_model(options.model)
    predictor = Predictor.load(model)
    renamed = _renamed(options.map)
    matching = match_classes(labelled.classes, predictor.classes, renamed, options.shared)
    left_out = _left_out(labelled, matching)
    report_unread(labelled.unread)
    _report_left_out(left_out, labelled, predictor, options.set)
    problems: list[Problem] = []
    predicted = _predict(predictor, labelled, matching, problems)
    report = {
        "model": {"path": shown(str(model)), **_identity(model)},
        "set": {"path": shown(str(options.set)), "rows": len(labelled.label_N), "corrected": labelled.corrected},
        "map": renamed,
        "shared": options.shared,
        "left_out": {
            "classes": left_out,
            "unreadable": [str(problem) for problem in problems],
            "not_read": list(labelled.unread),
        },
        "views": asdict(predictor.views),
        "precision": "fp32",
        **metrics.measure(
            predicted.p_NM, predicted.label_N, matching.classes, EvaluateConfig(), calibration=predictor.calibration
        ),
    }
    _write(options.out, shown(options.set.resolve().stem), predicted, matching.classes, report)
    for line in summary_lines(report):
        say(line)
    if labelled.corrected:
        say(f"note: {labelled.corrected:,} rows of the set were corrected by hand (data.corrections)")
    say(f"{options.out}: metrics.json, predictions.parquet, confusion.png")


def summary_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The main metrics, and one line per class."""
    yield f"{metrics.summary(report)}; n {report['rows']:,}"
    width = max(map(len, report["classes"]))
    for name, row in report["classes"].items():
        yield f"  {name:{width}}  recall {row['recall']:6.1%}  n {row['support']:,}"


def _parser() -> Parser:
    parser = Parser("nla measure", description="A model on another labelled set.")
    add, text = parser.add_argument, "a table of the `prepare` stage, or a folder with a subfolder of images per class"
    add("set", type=Path, metavar="SET", help=text)
    add_model(parser)
    add("--out", type=Path, default="reports/measured", help="the folder for the results (%(default)s)")
    text = "class FROM of the set is TO of the model; may be repeated"
    add("--map", type=_pair, action="append", default=[], metavar="FROM=TO", help=text)
    add("--shared", action="store_true", help="let the model choose among the classes that both have")
    return parser


def _pair(text: str) -> tuple[str, str]:
    old, sign, new = text.partition("=")
    if not (old and sign and new):
        raise argparse.ArgumentTypeError(f"{text!r} is not FROM=TO, such as happy=happiness")
    return old, new


def _renamed(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The pairs of --map. Raises CommandError if a class is mapped to two others."""
    renamed: dict[str, str] = {}
    for old, new in pairs:
        if renamed.setdefault(old, new) != new:
            raise CommandError(f"--map: {old} cannot be two classes (got {renamed[old]} and {new}). Keep one of them.")
    return renamed


def _left_out(labelled: LabelledSet, matching: ClassMatching) -> dict[str, int]:
    """Number of rows of each class that the model does not have, leaving out classes without rows."""
    rows_S = np.bincount(labelled.label_N, minlength=len(labelled.classes)).tolist()
    indices = matching.index_S.tolist()
    return {name: n for name, n, c in zip(labelled.classes, rows_S, indices, strict=True) if n and c == NONE}


def _report_left_out(left_out: Mapping[str, int], labelled: LabelledSet, predictor: Predictor, where: Path) -> None:
    """Prints what is left out because of its class. Raises DataError if that is everything."""
    if left_out:
        names = ", ".join(f"{name} ({n:,} rows)" for name, n in left_out.items())
        say(f"classes that the model does not have, left out: {names}")
    if sum(left_out.values()) == len(labelled.label_N):
        raise DataError(
            f"{where}: no image has a class of the model, which has {', '.join(predictor.classes)}. "
            "Map the names of the classes with --map FROM=TO."
        )


def _predict(
    predictor: Predictor, labelled: LabelledSet, matching: ClassMatching, problems: list[Problem]
) -> Predicted:
    """Predicts from the images with a class of the model. Raises DataError if none can be read.

    Unreadable images are appended to `problems`.
    """
    total = int((matching.index_S[labelled.label_N] != NONE).sum())
    wanted = (image for image in labelled.images() if matching.index_S[image.label] != NONE)
    images: list[LabelledImage] = []
    parts: list[np.ndarray] = []
    with bar("measure", "images") as update:
        for batch, prediction in predict_batches(predictor, wanted, problems):
            images += [LabelledImage(image.path, b"", image.row, image.label) for image in batch]
            parts.append(matching.restrict(prediction.uncalibrated))
            update(len(images) + len(problems), total)
    if not images:
        raise none_readable_error(problems)
    report_unreadable(problems)
    return Predicted(images, matching.index_S[[image.label for image in images]], np.concatenate(parts))


def _identity(model: Path) -> dict[str, Any]:
    card = read_card(weights_file(model))
    return {name: card[name] for name in ("fingerprint", "sha256")}


def _write(out: Path, name: str, predicted: Predicted, classes: Sequence[str], report: Mapping[str, Any]) -> None:
    write_table(out / "predictions.parquet", _table(predicted, classes))
    counts_CC = confusion(predicted.label_N, predicted.p_NM.argmax(axis=1), len(classes))
    write_figure(confusion_matrix(counts_CC, classes, name), out / "confusion.png")
    write_json(out / "metrics.json", report)


def _table(predicted: Predicted, classes: Sequence[str]) -> pa.Table:
    """A table like those of reports/predictions/, so that `nla compare` and `nla figure` can read it."""
    images, label = predicted.images, [classes[c] for c in predicted.label_N]
    known = {"row": [image.row for image in images], "path": [image.path for image in images], "label": label}
    return with_predictions(pa.table(known), predicted.p_NM, classes)
