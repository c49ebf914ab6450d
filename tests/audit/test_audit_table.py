from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_parts import CLASSES, INFO, labels_table

from nla.audit.table import labels_schema, probabilities, read_labels, write_labels
from nla.errors import DataError


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    table = labels_table()
    write_labels(path, table, INFO)
    info, read = read_labels(path)
    assert info == INFO
    assert read.to_pylist() == table.to_pylist()


def test_without_folds_it_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    write_labels(path, labels_schema(CLASSES).empty_table(), INFO.model_copy(update={"folds": 0, "data": {}}))
    info, read = read_labels(path)
    assert (info.folds, read.num_rows, read.column_names) == (0, 0, labels_schema(CLASSES).names)


def test_probabilities_are_in_the_order_of_the_classes() -> None:
    q_NC = probabilities(labels_table(), CLASSES, "q")
    assert q_NC.dtype == np.float32
    np.testing.assert_array_equal(q_NC, [[np.nan] * 3, [np.nan] * 3, [0, 0.5, 0.5]])


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("verdict", ["clean", "noisy", "clean"], "column verdict: must be one of clean, ambiguous, mislabelled"),
        ("label", ["neutral", "joy", "fear"], r"column label: must be one of .* \(got 'joy'\)"),
        ("split", ["train", "dev", "valid"], "column split: must be one of train, valid, test"),
        ("true_label", [None, "", None], "column true_label: must be one of neutral"),
        ("score", [0, 1.5, 1], r"column score: must be 0 to 1 \(got 1.5\)"),
        ("p_fear", [0, float("nan"), 1], r"column p_fear: must be 0 to 1 \(got nan\)"),
        ("q_fear", [None, -1, None], r"column q_fear: must be 0 to 1 \(got -1\)"),
        ("p_fear", [0, None, 1], "column p_fear: 1 values are missing"),
    ],
)
def test_impossible_values_are_refused(tmp_path: Path, column: str, values: list[Any], message: str) -> None:
    path = tmp_path / "labels.parquet"
    write_labels(path, labels_table(**{column: values}), INFO)
    with pytest.raises(DataError, match=message):
        read_labels(path)


def test_other_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    with pytest.raises(DataError, match="file not found"):
        read_labels(path)
    pq.write_table(pa.table({"row": [1]}), path)
    with pytest.raises(DataError, match="not a table of the audit"):
        read_labels(path)
    write_labels(path, labels_table(), INFO)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"labels\.parquet: .*(damaged|not a Parquet)"):
        read_labels(path)
