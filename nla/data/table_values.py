"""Checks of the values of a table that is read back: well-formed Parquet can still say what cannot be.

Legend: N rows, W values of a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nla.errors import DataError
from nla.text import shortened

TOLERANCE = 1e-3
"""Allowed deviation of the sum of a distribution from 1, of numbers in single precision."""


class Check(NamedTuple):
    """What the rows of a column must be, and which are not."""

    column: str
    wrong_N: np.ndarray
    expected: str
    """As in `must be ...`."""


def require(path: Path, table: pa.Table, checks: Iterable[Check], remedy: str) -> None:
    """Raises DataError, with the first wrong row of each column, counted from 0, and how many more there are."""
    faults = [_fault(table, check) for check in checks if check.wrong_N.any()]
    if len(faults) == 1:
        raise DataError(f"{path}: {faults[0]}. {remedy}")
    if faults:
        raise DataError("\n  ".join([f"{path}: impossible values. {remedy}", *faults]))


def _fault(table: pa.Table, check: Check) -> str:
    rows = np.flatnonzero(check.wrong_N)
    got = shortened(repr(table[check.column][int(rows[0])].as_py()))
    more = f", and {len(rows) - 1:,} more rows" if len(rows) > 1 else ""
    return f"row {rows[0]}: {check.column}: must be {check.expected} (got {got}){more}"


def is_one_of(table: pa.Table, column: str, values: Iterable[str]) -> Check:
    """Each value is one of `values`."""
    valid = list(values)
    wrong_N = pc.invert(pc.is_in(table[column], value_set=pa.array(valid)))
    return Check(column, _mask(wrong_N), ", ".join(valid))


def is_class(table: pa.Table, column: str, classes: int) -> Check:
    """Each value is null, or the number of a class."""
    wrong_N = pc.or_(pc.less(table[column], 0), pc.greater_equal(table[column], classes))
    return Check(column, _mask(pc.fill_null(wrong_N, False)), f"0 to {classes - 1}")


def is_unique(table: pa.Table, column: str) -> Check:
    """Each value is a whole number from 0 on, and no other row has it."""
    value_N = table[column].to_numpy()
    wrong_N = np.ones(len(value_N), bool)
    wrong_N[np.unique(value_N, return_index=True)[1]] = False
    return Check(column, wrong_N | (value_N < 0), "a number from 0 on that no other row has")


def is_counts(table: pa.Table, column: str, width: int) -> Check:
    """Each list is null, or `width` counts."""

    def is_counted(value_NW: np.ndarray) -> np.ndarray:
        return np.asarray((value_NW >= 0).all(axis=1))

    wrong_N = _wrong_lists(table[column], width, is_counted)
    return Check(column, wrong_N, f"{width} counts of 0 or more")


def is_distribution(table: pa.Table, column: str, width: int) -> Check:
    """Each list is null, or `width` shares that sum to 1."""

    def sums_to_one(value_NW: np.ndarray) -> np.ndarray:
        return np.asarray((np.abs(value_NW.sum(axis=1) - 1) <= TOLERANCE) & (value_NW >= 0).all(axis=1))

    wrong_N = _wrong_lists(table[column], width, sums_to_one)
    return Check(column, wrong_N, f"{width} shares from 0 to 1 that sum to 1")


def _wrong_lists(column: pa.ChunkedArray, width: int, valid: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Mask of the lists that are not null, and of another length than `width` or not `valid`; bool [N]."""
    array = column.combine_chunks()
    wrong_N = np.zeros(len(array), bool)
    given = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
    lists = array.drop_null()
    is_long = lists.value_lengths().to_numpy(zero_copy_only=False) == width
    wrong_N[given[~is_long]] = True
    rest = lists.filter(pa.array(is_long))
    # a missing value becomes NaN, which no comparison is true of
    value_NW = rest.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(len(rest), width)
    wrong_N[given[is_long]] = ~valid(value_NW)
    return wrong_N


def _mask(column: pa.ChunkedArray) -> np.ndarray:
    mask_N: np.ndarray = column.to_numpy().astype(bool)
    return mask_N
