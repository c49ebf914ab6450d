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
from nla.study.record import (
    ADDED,
    SCHEMA,
    SELECTIONS,
    Record,
    log_probabilities,
    read_record,
    softmax,
    write_record,
)

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
    clean_epoch=2,
    clean_accuracy=[0.5, 0.75],
    clean_predicted=np.array([1, 1, 1], np.uint8),
    log_p={1: np.array([[-0.5, -1], [-2, -3], [-87.3, -1e-3]], np.float16), 2: np.zeros((3, 2), np.float16)},
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


def test_a_record_of_an_earlier_version_is_read_as_chosen_by_clean_validation(tmp_path: Path) -> None:
    path = _written(tmp_path)
    pq.write_table(pq.ParquetFile(path).read().drop_columns(list(ADDED)), path)
    found = read_record(path)
    assert (found.clean_epoch, found.clean_accuracy, found.log_p) == (RECORD.best_epoch, [], {})
    np.testing.assert_array_equal(found.predicted("clean"), RECORD.best_predicted)
    assert found.p("given") is None


def test_every_selection_has_its_epoch_and_predictions() -> None:
    assert [RECORD.epoch(selection) for selection in SELECTIONS] == [1, 2, 2]
    assert [RECORD.predicted(selection).tolist() for selection in SELECTIONS] == [[0, 7, 255], [1, 1, 1], [1, 1, 1]]
    p_NC = RECORD.p("clean")
    assert p_NC is not None and p_NC.tolist() == [[0.5, 0.5]] * 3


def test_probabilities_near_zero_and_one_survive_their_rounding() -> None:
    p_NC = np.array([[1 - 1e-6, 1e-6], [0.3, 0.7], [1e-30, 1]])
    found = softmax(log_probabilities(p_NC))
    np.testing.assert_allclose(np.log(found), np.log(p_NC), rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"facts": "{"}, r"abc\.parquet: column facts: not valid JSON"),
        ({"facts": "{}"}, r"abc\.parquet: column facts: device_name: field required"),
        ({"claims": "[]"}, r"abc\.parquet: column claims: must be an object"),
        ({"best_epoch": 3}, r"abc\.parquet: column best_epoch: must be between 1 and 2 \(got 3\)"),
        ({"clean_epoch": 0}, r"abc\.parquet: column clean_epoch: must be between 1 and 2 \(got 0\)"),
        (
            {"log_p": [{"epoch": 1, "log_p": b"1234"}]},
            r"column log_p: must have a whole number of classes",
        ),
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
