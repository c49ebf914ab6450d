"""The output file of a figure, and the option --title, which commands that draw share."""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from nla.errors import CommandError
from nla.plotting import FORMATS, plain, write_figure

SUFFIXES = f".{', .'.join(FORMATS)}"
"""File formats of figures, for help and messages."""


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
