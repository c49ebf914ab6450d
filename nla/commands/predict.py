"""`nla predict`: writes label, confidence, ambiguity and probabilities of images as CSV."""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from nla.commands.arguments import add_model
from nla.commands.image_inputs import (
    StoredImage,
    find_images,
    none_readable_error,
    predict_batches,
    report_unread,
    report_unreadable,
    unread_below,
)
from nla.commands.parser import Parser
from nla.console import bar, say
from nla.data.problems import Problem
from nla.io import atomic_write
from nla.serving.predictor import Predictor
from nla.text import shown

STDOUT = "-"


def main(argv: Sequence[str]) -> None:
    """Writes one row per readable image: path, label, confidence, ambiguity and p_CLASS of each class.

    Confidence and p_CLASS are calibrated, ambiguity is of the probabilities before.

    Raises:
        DataError: there is no image, or none can be read.
        WeightsError: the model cannot be loaded.
    """
    options = _parser().parse_args(argv)
    names, predictor = find_images(options.paths), Predictor.load(options.model)
    problems: list[Problem] = []
    with _progress(options.out) as update:
        _write(options.out, rows(predictor, names, problems, update))
    report_unreadable(problems)
    report_unread(unread_below(options.paths))
    if options.out != STDOUT:
        say(f"{len(names) - len(problems):,} images: {options.out}")


def rows(
    predictor: Predictor, names: Sequence[str], problems: list[Problem], update: Callable[[int, int], None]
) -> Iterator[list[str]]:
    """Yields the header, and one row per image.

    Args:
        predictor: the model.
        names: paths of the images.
        problems: unreadable images are appended to it.
        update: called with (done, total).

    Raises:
        DataError: no image can be read; raised before the header.
    """
    done = 0
    stored = (StoredImage(name, Path(name)) for name in names)
    for images, prediction in predict_batches(predictor, stored, problems):
        if not done:
            yield ["path", "label", "confidence", "ambiguity", *(f"p_{name}" for name in predictor.classes)]
        numbers = np.column_stack([prediction.confidence, prediction.ambiguity, prediction.probabilities])
        for image, label, values in zip(images, prediction.label, numbers.tolist(), strict=True):
            yield [shown(image.path), label, *(f"{value:.6f}" for value in values)]
        done += len(images)
        update(done + len(problems), len(names))
    if not done:
        raise none_readable_error(problems)


def _parser() -> Parser:
    parser = Parser("nla predict", description="Label, confidence, ambiguity and probabilities of images, as CSV.")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="an image, or a folder with images at any depth")
    add_model(parser)
    parser.add_argument("--out", default="predictions.csv", help=f"{STDOUT} is standard output (%(default)s)")
    return parser


def _progress(out: str) -> contextlib.AbstractContextManager[Callable[[int, int], None]]:
    """A progress bar, unless the rows go to standard output."""
    return contextlib.nullcontext(lambda done, total: None) if out == STDOUT else bar("predict", "images")


def _write(out: str, table: Iterable[list[str]]) -> None:
    if out == STDOUT:
        csv.writer(sys.stdout, lineterminator="\n").writerows(table)
        return
    with atomic_write(Path(out)) as part, part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(table)
