"""Options that several commands share: --model, --detector, --title, and the output file of a figure."""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from nla.errors import CommandError
from nla.faces.choice import NAMES
from nla.plotting import FORMATS, plain, write_figure

SUFFIXES = f".{', .'.join(FORMATS)}"
"""File formats of figures, for help and messages."""


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds --model, which is None unless it is given: `chosen_model` knows what to take then."""
    text = "a .safetensors file with its .json, or a folder that holds model.safetensors (models, else NLA's own)"
    parser.add_argument("--model", type=Path, help=text)


def add_detector(parser: argparse.ArgumentParser) -> None:
    """Adds --detector."""
    text = "what finds faces; auto: yunet if its weights are there (`nla detector list`), else dlib (%(default)s)"
    parser.add_argument("--detector", choices=NAMES, default=NAMES[0], help=text)


def add_title(parser: argparse.ArgumentParser) -> None:
    """Adds --title; without it a figure has no headline, as papers want it."""
    parser.add_argument("--title", action="store_true", help="with the headline that the figures of reports/ have")


def check_format(out: Path) -> None:
    """Raises CommandError if the format of `out` is not supported, before anything is computed for it."""
    if out.suffix.removeprefix(".") not in FORMATS:
        raise CommandError(f"{out}: unsupported file format (got {out.suffix!r}). Use {SUFFIXES}.")


def save_figure(figure: Figure, out: Path, title: bool) -> None:
    """Saves the figure, with its headline only if `title`."""
    write_figure(figure if title else plain(figure), out)
