"""The file of a picture, for commands that draw one."""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from nla.errors import CommandError
from nla.pictures import FORMATS, plain, write_figure

SUFFIXES = f".{', .'.join(FORMATS)}"


def add_title(parser: argparse.ArgumentParser) -> None:
    """Adds --title: without it a picture is as papers have them."""
    parser.add_argument("--title", action="store_true", help="with the headline that the pictures of reports/ have")


def check_format(out: Path) -> None:
    """Raises CommandError for a file that cannot be written, before anything is computed for it."""
    if out.suffix.removeprefix(".") not in FORMATS:
        raise CommandError(f"{out}: end it in {SUFFIXES}")


def write_picture(figure: Figure, out: Path, title: bool) -> None:
    """Saves it, with its headline or without."""
    write_figure(figure if title else plain(figure), out)
