"""Messages about unreadable images: the first of them, and their number."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from nla.data.sources.base import Problem
from nla.errors import DataError

SHOWN = 10
"""Number of problems that a message lists."""


def tell_left_out(problems: Sequence[Problem]) -> None:
    """Reports the unreadable images on standard error; prints nothing if there are none."""
    if problems:
        print(f"left out, as they cannot be read: {len(problems):,}\n{_listed(problems)}", file=sys.stderr)


def none_read(problems: Sequence[Problem]) -> DataError:
    """The error for the case that no image could be read."""
    return DataError(f"no image can be read: give whole PNG, JPEG, BMP or WebP files\n{_listed(problems)}")


def _listed(problems: Sequence[Problem]) -> str:
    more = [f"  and {len(problems) - SHOWN:,} more"] if len(problems) > SHOWN else []
    return "\n".join([*(f"  {problem}" for problem in problems[:SHOWN]), *more])
