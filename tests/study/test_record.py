"""Records keep what they are given, whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nla.errors import DataError
from nla.study.record import SCHEMA, Record, read_record, write_record

RECORD = Record(
    method="ce",
    condition="clean",
    noise_kind="symmetric",
    noise_rate=0.0,
    imbalance_factor=None,
    seed=3,
    fingerprint="abc",
    epochs=2,
    best_epoch=1,
    seconds=1.5,
    params={"loss": {"name": "ce", "true_mean": [0.5, 0.5]}},
    facts={"commit": None, "precision": "fp32", "device_name": "AVX2", "machine": {}, "versions": {}},
    claims={},
    valid_accuracy=[0.5, 0.25],
    valid_mean_accuracy=[0.5, 0.125],
    test_accuracy=[0.25, 0.5],
    test_mean_accuracy=[0.5, 0.75],
    best_predicted=np.array([0, 7, 255], np.uint8),
    last_predicted=np.array([1, 1, 1], np.uint8),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "records/abc.parquet"
    write_record(path, RECORD)
    found = read_record(path)
    for name, value in vars(RECORD).items():
        np.testing.assert_equal(getattr(found, name), value)
    assert found.best_predicted.dtype == np.uint8
    assert pq.read_schema(path).names == SCHEMA.names == list(vars(RECORD))
    assert [entry.name for entry in path.parent.iterdir()] == ["abc.parquet"]


def test_the_score_is_of_the_epoch_that_validation_chose() -> None:
    record = replace(RECORD, valid_accuracy=[0.5, 0.75], valid_mean_accuracy=[0.375, 0.25], best_epoch=2)
    assert [record.score(name) for name in ("accuracy", "mean_accuracy", "both")] == [0.75, 0.25, 0.5]


def test_what_is_no_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "abc.parquet"
    write_record(path, RECORD)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"abc\.parquet: not a Parquet file"):
            read_record(path)
    pq.write_table(pq.ParquetFile(_written(tmp_path)).read().drop_columns(["seed"]), path)
    with pytest.raises(DataError, match=r"abc\.parquet: no column seed"):
        read_record(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"facts": "{"}, r"abc\.parquet: column facts: not valid JSON"),
        ({"facts": "{}"}, r"abc\.parquet: column facts: device_name: field required"),
        ({"claims": "[]"}, r"abc\.parquet: column claims: must be an object"),
        ({"best_epoch": 3}, r"abc\.parquet: column best_epoch: must be between 1 and 2 \(got 3\)"),
    ],
)
def test_a_damaged_column_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    (row,) = pq.read_table(_written(tmp_path)).to_pylist()
    pq.write_table(pa.Table.from_pylist([row | change], SCHEMA), tmp_path / "abc.parquet")
    with pytest.raises(DataError, match=message):
        read_record(tmp_path / "abc.parquet")


def _written(folder: Path) -> Path:
    write_record(folder / "other" / "x.parquet", RECORD)
    return folder / "other" / "x.parquet"
