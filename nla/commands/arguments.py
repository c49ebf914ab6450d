"""The option --model, which several commands share.

The output file of commands that draw a figure.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from nla.errors import CommandError
from nla.plotting import FORMATS, plain, write_figure
from nla.serving.predictor import WEIGHTS


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds --model."""
    what = "a .safetensors file with its .json, or the folder of a training (%(default)s)"
    parser.add_argument("--model", type=Path, default="models", help=what)


def weights_of(model: Path) -> Path:
    """The weights file that --model refers to."""
    return model / WEIGHTS if model.is_dir() else model


SUFFIXES = f".{', .'.join(FORMATS)}"


def add_title(parser: argparse.ArgumentParser) -> None:
    """Adds --title; without it a figure has no headline, as papers want it."""
    parser.add_argument("--title", action="store_true", help="with the headline that the pictures of reports/ have")


def check_format(out: Path) -> None:
    """Raises CommandError if the format of `out` is not supported, before anything is computed for it."""
    if out.suffix.removeprefix(".") not in FORMATS:
        raise CommandError(f"{out}: end it in {SUFFIXES}")


def write_picture(figure: Figure, out: Path, title: bool) -> None:
    """Saves the figure, with its headline only if `title`."""
    write_figure(figure if title else plain(figure), out)
