"""What a person is told of images that cannot be read: the first of them, and how many there are."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from nla.data.sources.base import Problem
from nla.errors import DataError

SHOWN = 10
"""Problems that a message has."""


def tell_left_out(problems: Sequence[Problem]) -> None:
    """On standard error; nothing where there are none."""
    if problems:
        print(f"left out, as they cannot be read: {len(problems):,}\n{_listed(problems)}", file=sys.stderr)


def none_read(problems: Sequence[Problem]) -> DataError:
    """The error where not one image is left."""
    return DataError(f"no image can be read: give whole PNG, JPEG, BMP or WebP files\n{_listed(problems)}")


def _listed(problems: Sequence[Problem]) -> str:
    more = [f"  and {len(problems) - SHOWN:,} more"] if len(problems) > SHOWN else []
    return "\n".join([*(f"  {problem}" for problem in problems[:SHOWN]), *more])
