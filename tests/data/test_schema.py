from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from nla.data.schema import dense, nested
from nla.errors import DataError


def test_nulls_become_the_filling_value() -> None:
    column = pa.chunked_array([[[1, 2], None], [], [None, [3, 4]]], pa.list_(pa.int16()))
    assert dense(column, 2, np.int16, -7).tolist() == [[1, 2], [-7, -7], [-7, -7], [3, 4]]


def test_a_slice_of_a_column_is_read_as_that_slice() -> None:
    column = pa.chunked_array([pa.array([[1.0], None, [3.0]], pa.list_(pa.float32())).slice(1)])
    np.testing.assert_array_equal(dense(column, 1, np.float32, np.nan), [[np.nan], [3]])


def test_a_list_of_another_length_is_an_error() -> None:
    with pytest.raises(DataError, match="expected 2 values, got 3"):
        dense(pa.chunked_array([[[1, 2], [1, 2, 3]]]), 2, np.int16, 0)


def test_nested_is_the_way_back() -> None:
    value_NC = np.arange(6, dtype=np.float32).reshape(3, 2)
    array = nested(value_NC, np.array([True, False, True]))
    assert array.to_pylist() == [[0, 1], None, [4, 5]]
    assert array.type == pa.list_(pa.float32())
    assert nested(value_NC, np.zeros(3, bool)).to_pylist() == [None, None, None]
