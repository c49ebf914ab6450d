"""A labelled set outside training: a table written by stage `prepare`, or a folder with one subfolder per class.

Matches the classes of a data set with those of a model by name.

Legend: N images, C classes of the model, S of the set, M that metrics cover.

`nla measure`: evaluates a model on another labelled set, matching classes by name.

Legend: N images that are measured, M classes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nla.commands.arguments import add_model, weights_of
from nla.commands.images import Stored, answers, none_read, tell_left_out
from nla.config.base import nearest
from nla.config.evaluate import EvaluateConfig
from nla.console import bar, say
from nla.data.schema import read_info
from nla.data.sources.base import Problem
from nla.data.sources.image_files import SUFFIXES, image_names
from nla.errors import DataError
from nla.evaluation import metrics
from nla.evaluation.metrics import confusion
from nla.evaluation.plots import confusion_matrix
from nla.evaluation.tables import with_predictions
from nla.io import write_json, write_table
from nla.models.card import read_card
from nla.plotting import write_figure
from nla.serving.predictor import Predictor

ROWS = 1024  # rows of a table read at a time
COLUMNS = ["row", "clean_label", "image"]


@dataclass(frozen=True)
class Labelled(Stored):
    """An image with its label."""

    row: int
    label: int
    """Index of its class in the classes of the set."""


@dataclass(frozen=True)
class LabelledSet:
    """N images, read lazily."""

    classes: tuple[str, ...]
    label_N: np.ndarray
    """Indices into `classes`, [N]."""
    images: Callable[[], Iterator[Labelled]]
    """Returns an iterator over all images, in the order of `label_N`."""


def open_set(path: Path) -> LabelledSet:
    """Opens the set at `path`; the labels of a table are those before noise.

    Raises:
        DataError: it does not exist, or is neither a table of `prepare` nor a folder of classes.
    """
    if not path.exists():
        raise DataError(
            f"{path} does not exist: give data/test.parquet or its like, or a folder with one folder a class"
        )
    return _of_folder(path) if path.is_dir() else _of_table(path)


def _of_folder(root: Path) -> LabelledSet:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = [(label, name) for label, folder in enumerate(folders) for name in image_names(folder)]
    if not names:
        raise DataError(
            f"{root} holds no CLASS/IMAGE: make a folder a class, with its images in it ({', '.join(SUFFIXES)})"
        )

    def images() -> Iterator[Labelled]:
        for row, (label, name) in enumerate(names):
            yield Labelled(f"{folders[label].name}/{name}", folders[label] / name, row, label)

    return LabelledSet(tuple(folder.name for folder in folders), np.array([label for label, _ in names]), images)


def _of_table(path: Path) -> LabelledSet:
    info = read_info(path)
    if lacking := [name for name in COLUMNS if name not in pq.read_schema(path).names]:
        raise DataError(
            f"{path} has no column {', '.join(lacking)}: give a table of `prepare`, such as data/test.parquet"
        )
    label_N = pq.read_table(path, columns=["clean_label"])["clean_label"].to_numpy()
    return LabelledSet(info.classes, label_N, partial(_rows, path))


def _rows(path: Path) -> Iterator[Labelled]:
    for batch in pq.ParquetFile(path).iter_batches(ROWS, columns=COLUMNS):
        for of in batch.to_pylist():
            yield Labelled(of["image"]["path"], of["image"]["bytes"], of["row"], of["clean_label"])


NONE = -1


@dataclass(frozen=True)
class Matching:
    """Correspondence between the classes of the set and those of the model."""

    classes: tuple[str, ...]
    """Names of the M classes, in the model's order."""
    place_S: np.ndarray
    """Index in `classes` of each class of the set, [S]; NONE if the model does not have it."""
    chosen_M: np.ndarray
    """Indices of `classes` among the model's classes, [M]."""

    def among(self, p_NC: np.ndarray) -> np.ndarray:
        """The model's probabilities, renormalised over `classes`, [N, M]; uniform where all of them are 0."""
        p_NM = p_NC[:, self.chosen_M].astype(np.float64)
        total_N1 = p_NM.sum(axis=1, keepdims=True)
        return np.divide(p_NM, total_N1, out=np.full_like(p_NM, 1 / p_NM.shape[1]), where=total_N1 > 0)


def match(of_set: Sequence[str], of_model: Sequence[str], renamed: Mapping[str, str], shared: bool) -> Matching:
    """Matches each class of the set with the model's class of its name, or of the name that `renamed` gives it.

    With `shared`, metrics cover only the classes that both have, else all classes of the model.

    Raises:
        DataError: `renamed` names a class that does not exist.
    """
    _check(of_set, of_model, renamed)
    names = [renamed.get(name, name) for name in of_set]
    chosen = [c for c, name in enumerate(of_model) if name in names or not shared]
    classes = tuple(of_model[c] for c in chosen)
    place_S = np.array([classes.index(name) if name in classes else NONE for name in names])
    return Matching(classes, place_S, np.array(chosen, np.int64))


def _check(of_set: Sequence[str], of_model: Sequence[str], renamed: Mapping[str, str]) -> None:
    for old, new in renamed.items():
        if old not in of_set:
            raise DataError(f"--map {old}={new}: the set has no class '{old}'{nearest(old, of_set)}")
        if new not in of_model:
            raise DataError(f"--map {old}={new}: the model has no class '{new}'{nearest(new, of_model)}")


@dataclass(frozen=True)
class Answered:
    """The readable images with their predictions."""

    images: list[Labelled]
    label_N: np.ndarray
    p_NM: np.ndarray


def main(argv: Sequence[str]) -> None:
    """Writes metrics.json, predictions.parquet and confusion.png into a folder, and prints the main metrics.

    Raises:
        DataError: the set cannot be used, or none of its images has a class of the model.
        WeightsError: the model cannot be loaded.
    """
    options = _parser().parse_args(argv)
    labelled, predictor = open_set(options.set), Predictor.load(options.model)
    matching = match(labelled.classes, predictor.classes, dict(options.map), options.shared)
    left_out = _left_out(labelled, matching)
    _tell(left_out, labelled, predictor, options.set)
    problems: list[Problem] = []
    answered = _answered(predictor, labelled, matching, problems)
    report = {
        "model": {"path": str(options.model), **_identity(options.model)},
        "set": {"path": str(options.set), "rows": len(labelled.label_N)},
        "map": dict(options.map),
        "shared": options.shared,
        "left_out": {"classes": left_out, "unreadable": [str(problem) for problem in problems]},
        "views": asdict(predictor.views),
        **metrics.measure(answered.p_NM, answered.label_N, matching.classes, EvaluateConfig()),
    }
    _write(options.out, options.set.resolve().stem, answered, matching.classes, report)
    for line in told(report):
        say(line)
    say(f"{options.out}: metrics.json, predictions.parquet, confusion.png")


def told(report: Mapping[str, Any]) -> Iterator[str]:
    """The main metrics, and one line per class."""
    yield f"{metrics.summary(report)}; n {report['rows']:,}"
    width = max(map(len, report["classes"]))
    for name, of in report["classes"].items():
        yield f"  {name:{width}}  recall {of['recall']:6.1%}  n {of['support']:,}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("nla measure", description="A model on another labelled set.")
    add, what = parser.add_argument, "a table of stage `prepare`, or a folder with one folder of images a class"
    add("set", type=Path, metavar="SET", help=what)
    add_model(parser)
    add("--out", type=Path, default="reports/measured", help="the folder for the results (%(default)s)")
    what = "class FROM of the set is TO of the model; may be repeated"
    add("--map", type=_pair, action="append", default=[], metavar="FROM=TO", help=what)
    add("--shared", action="store_true", help="let the model choose among the classes that both have")
    return parser


def _pair(text: str) -> tuple[str, str]:
    old, sign, new = text.partition("=")
    if not (old and sign and new):
        raise argparse.ArgumentTypeError(f"{text!r} is not FROM=TO, such as happy=happiness")
    return old, new


def _left_out(labelled: LabelledSet, matching: Matching) -> dict[str, int]:
    """Number of rows of each class that the model does not have, leaving out classes without rows."""
    rows_S = np.bincount(labelled.label_N, minlength=len(labelled.classes)).tolist()
    places = matching.place_S.tolist()
    return {name: n for name, n, place in zip(labelled.classes, rows_S, places, strict=True) if n and place == NONE}


def _tell(left_out: Mapping[str, int], labelled: LabelledSet, predictor: Predictor, where: Path) -> None:
    """Prints what is left out because of its class. Raises DataError if that is everything."""
    if left_out:
        say(f"left out, no class of the model: {', '.join(f'{name} ({n:,} rows)' for name, n in left_out.items())}")
    if sum(left_out.values()) == len(labelled.label_N):
        raise DataError(
            f"no image of {where} has a class of the model, which has {', '.join(predictor.classes)}: "
            "say which is which with --map FROM=TO"
        )


def _answered(predictor: Predictor, labelled: LabelledSet, matching: Matching, problems: list[Problem]) -> Answered:
    """Predicts from the images with a class of the model. Raises DataError if none can be read.

    Unreadable images are appended to `problems`.
    """
    total = int((matching.place_S[labelled.label_N] != NONE).sum())
    wanted = (image for image in labelled.images() if matching.place_S[image.label] != NONE)
    images: list[Labelled] = []
    parts: list[np.ndarray] = []
    with bar("measure", "images") as update:
        for batch, prediction in answers(predictor, wanted, problems):
            images += [Labelled(image.path, b"", image.row, image.label) for image in batch]
            parts.append(matching.among(prediction.probabilities))
            update(len(images) + len(problems), total)
    if not images:
        raise none_read(problems)
    tell_left_out(problems)
    return Answered(images, matching.place_S[[image.label for image in images]], np.concatenate(parts))


def _identity(model: Path) -> dict[str, Any]:
    card = read_card(weights_of(model))
    return {name: card[name] for name in ("fingerprint", "sha256")}


def _write(out: Path, name: str, answered: Answered, classes: Sequence[str], report: Mapping[str, Any]) -> None:
    write_table(out / "predictions.parquet", _table(answered, classes))
    counts_CC = confusion(answered.label_N, answered.p_NM.argmax(axis=1), len(classes))
    write_figure(confusion_matrix(counts_CC, classes, name), out / "confusion.png")
    write_json(out / "metrics.json", report)


def _table(answered: Answered, classes: Sequence[str]) -> pa.Table:
    """A table like those of reports/predictions/, so that `nla compare` and `nla figure` can read it."""
    images, label = answered.images, [classes[c] for c in answered.label_N]
    known = {"row": [image.row for image in images], "path": [image.path for image in images], "label": label}
    return with_predictions(pa.table(known), answered.p_NM, classes)
