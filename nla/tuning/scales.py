"""Places the values of a searched parameter on an axis from 0 to 1."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nla.config.tune import Distribution


class Scale(NamedTuple):
    """An axis, with T trials on it."""

    height_T: list[float]
    """In [0, 1]; NaN for a trial in which the parameter does not count."""
    marks: list[tuple[float, str]]
    """(height, label): the lowest and highest value, or each choice."""
    is_log: bool = False
    """Whether the axis is logarithmic."""


def scale(distribution: Distribution, value_T: Sequence[Any]) -> Scale:
    """The axis of a parameter; a value of None means that the parameter does not count in that trial."""
    if distribution.kind in ("choice", "grid") and not all(map(_is_number, distribution.arguments)):
        return _of_names(distribution.arguments, value_T)
    is_log = distribution.kind == "loguniform"
    return of_numbers([math.nan if value is None else float(value) for value in value_T], is_log=is_log)


def of_numbers(
    value_T: Sequence[float], *, is_log: bool = False, write: Callable[[float], str] = "{:.3g}".format
) -> Scale:
    """An axis from the lowest to the highest value; at least one must not be NaN."""
    place_T = np.log(value_T) if is_log else np.asarray(value_T, dtype=float)
    low, high = np.nanmin(place_T), np.nanmax(place_T)
    unit_T = (place_T - low) / (high - low) if high > low else place_T - low + 0.5
    ends = {0.0: np.nanmin(value_T), 1.0: np.nanmax(value_T)} if high > low else {0.5: np.nanmin(value_T)}
    marks = [(height, write(end)) for height, end in ends.items()]
    return Scale(unit_T.tolist(), marks, is_log)


def _of_names(names: Sequence[Any], value_T: Sequence[Any]) -> Scale:
    """The choices, evenly spaced in their order; None gets a height only if it is one of them."""
    step = 1 / max(1, len(names) - 1)
    heights = {_name(name): i * step for i, name in enumerate(names)}
    return Scale([heights.get(_name(value), math.nan) for value in value_T], [(h, n) for n, h in heights.items()])


def _name(value: Any) -> str:
    """The value as written in params.yaml."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
