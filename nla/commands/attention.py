"""`nla attention`: draws where the network looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nla.commands.arguments import add_model
from nla.commands.figure_file import SUFFIXES, add_title, check_format, save_figure
from nla.commands.image_inputs import (
    StoredImage,
    find_images,
    none_readable_error,
    read_image,
    report_unread,
    report_unreadable,
    unread_below,
)
from nla.commands.parser import Parser, positive
from nla.config.base import nearest
from nla.console import say
from nla.data.images import Pixels
from nla.data.problems import Problem
from nla.errors import CommandError
from nla.evaluation.grad_cam import attention
from nla.evaluation.plots import attention_sheet
from nla.serving.predictor import Predictor


def main(argv: Sequence[str]) -> None:
    """Draws pairs of a face and the same face with the evidence for a class on it.

    Raises:
        DataError: there is no image, or none can be read.
        WeightsError: the model cannot be loaded.
        ConfigError: the network has no feature maps (a timm network, for example).
        CommandError: the model does not have the requested class.
    """
    options = _parser().parse_args(argv)
    check_format(options.out)
    predictor = Predictor.load(options.model)
    pixels = _read(_evenly_spaced(find_images(options.paths), options.most), predictor)
    predicted = predictor.predict(pixels)
    p_NC = predicted.probabilities
    class_N = (
        predicted.uncalibrated.argmax(1)
        if options.label is None
        else np.full(len(pixels), _number(options.label, predictor))
    )
    images_NHWC = pixels.reshape(*pixels.shape[:3], -1)
    heat_NHW = attention(predictor.model, images_NHWC, class_N)
    p_N = p_NC[np.arange(len(pixels)), class_N]
    report_unread(unread_below(options.paths))
    figure = attention_sheet(images_NHWC, heat_NHW, class_N, p_N, predictor.classes)
    save_figure(figure, options.out, options.title)
    say(f"{len(pixels):,} images: {options.out}")


def _evenly_spaced(names: Sequence[str], most: int) -> list[str]:
    """At most `most` names, evenly spaced, because folders are listed class by class."""
    return [names[i * len(names) // min(most, len(names))] for i in range(min(most, len(names)))]


def _read(names: Sequence[str], predictor: Predictor) -> Pixels:
    """Pixels [N, H, W] or [N, H, W, 3]; unreadable images are left out and listed on standard error."""
    found = [read_image(StoredImage(name, Path(name)), predictor.model.image, predictor.limits) for name in names]
    problems = [item for item in found if isinstance(item, Problem)]
    if len(problems) == len(found):
        raise none_readable_error(problems)
    report_unreadable(problems)
    return np.stack([item for item in found if not isinstance(item, Problem)])


def _number(label: str, predictor: Predictor) -> int:
    if label not in predictor.classes:
        raise CommandError(f"--label: the model has no class {label!r}{nearest(label, predictor.classes)}")
    return predictor.classes.index(label)


def _parser() -> Parser:
    parser = Parser("nla attention", description="Where the network looks, by Grad-CAM.")
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="an image, or a folder with images at any depth")
    add_model(parser)
    add("--label", metavar="CLASS", help="draw the evidence for this class (the predicted one)")
    add("--most", type=positive, default=24, metavar="N", help="maximum number of images, evenly spaced (%(default)s)")
    add("--out", type=Path, default="attention.png", help=f"a file that ends in {SUFFIXES} (%(default)s)")
    add_title(parser)
    return parser
