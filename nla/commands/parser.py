"""The parser of every command, and types of its options."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NoReturn

from nla.limits import MAX_WHOLE
from nla.text import printable


def positive(text: str) -> int:
    """A whole number from 1 on. Raises ArgumentTypeError for anything else."""
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < MAX_WHOLE):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def between(least: float, most: float) -> Callable[[str], float]:
    """The type of a number in a range. It raises ArgumentTypeError for anything else."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least:g} to {most:g}")
        return value

    return number


class Parser(argparse.ArgumentParser):
    """A parser whose errors escape control characters, which names of files can contain."""

    def error(self, message: str) -> NoReturn:
        """Exits with usage and message."""
        super().error(printable(message))
