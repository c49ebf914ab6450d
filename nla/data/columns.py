"""Converts between Arrow list columns and dense arrays; a null is a row filled with one value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from nla.errors import DataError


def dense(column: pa.ChunkedArray, width: int, dtype: Any, null: float) -> np.ndarray:
    """List column -> [N, width]; null rows are filled with `null`.

    Raises:
        DataError: a list has another length.
    """
    array = column.combine_chunks()
    given_N = array.is_valid().to_numpy(zero_copy_only=False)
    lists = array.drop_null()
    length = lists.value_lengths().to_numpy(zero_copy_only=False)
    if (length != width).any():
        raise DataError(
            f"a list of {length[length != width][0]} values where {width} are due: run `dvc repro -f ingest`"
        )
    rows = np.full((len(array), width), null, dtype)
    rows[given_N] = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), width)
    return rows


def nested(value_NC: np.ndarray, given_N: np.ndarray) -> pa.ListArray:
    """[N, C] -> list<float> column, null where `given_N` [N] is False."""
    width = value_NC.shape[1]
    offsets = np.concatenate(([0], np.cumsum(np.where(given_N, width, 0)))).astype(np.int32)
    values = pa.array(value_NC[given_N].ravel(), pa.float32())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~given_N))
