"""The record of one training of a study: a Parquet file of one row, small enough for git."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nla.errors import DataError
from nla.io import write_table
from nla.tuning.results import row_score

SERIES = ("valid_accuracy", "valid_mean_accuracy", "test_accuracy", "test_mean_accuracy")
SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("condition", pa.string()),
        ("noise_kind", pa.string()),
        ("noise_rate", pa.float64()),
        ("imbalance_factor", pa.float64()),  # null: unchanged
        ("seed", pa.int32()),
        ("fingerprint", pa.string()),
        ("epochs", pa.int32()),
        ("best_epoch", pa.int32()),  # from 1, chosen on validation
        ("seconds", pa.float64()),  # training and validation
        ("params", pa.string()),  # JSON
        ("facts", pa.string()),  # JSON: hardware, versions, commit
        ("claims", pa.string()),  # JSON: weights of the training samples
        *((name, pa.list_(pa.float64())) for name in SERIES),  # one value per epoch; test values choose nothing
        ("best_predicted", pa.list_(pa.uint8())),  # class of each test row by the epoch chosen on validation
        ("last_predicted", pa.list_(pa.uint8())),  # by the last epoch
    ]
)


@dataclass(frozen=True)
class Record:
    """Measurements of one training of a study."""

    method: str
    condition: str
    noise_kind: str
    noise_rate: float
    imbalance_factor: float | None
    seed: int
    fingerprint: str
    epochs: int
    best_epoch: int
    seconds: float
    params: Mapping[str, Any]
    facts: Mapping[str, Any]
    claims: Mapping[str, Any]
    valid_accuracy: list[float]
    valid_mean_accuracy: list[float]
    test_accuracy: list[float]
    test_mean_accuracy: list[float]
    best_predicted: np.ndarray
    """Class of each test row by the epoch chosen on validation, [N] uint8."""
    last_predicted: np.ndarray

    @property
    def version(self) -> str:
        """Short hash that distinguishes records of the same training made at different times."""
        measured = (self.valid_accuracy, self.test_accuracy, self.best_epoch, self.facts.get("commit"))
        return hashlib.sha256(repr(measured).encode() + self.last_predicted.tobytes()).hexdigest()[:8]

    def reached(self, objective: str) -> float:
        """The objective (`accuracy`, `mean_accuracy` or `both`, their mean) on validation, in the chosen epoch."""
        row = {name: getattr(self, name)[self.best_epoch - 1] for name in ("valid_accuracy", "valid_mean_accuracy")}
        return row_score(row, objective)


def write_record(path: Path, record: Record) -> None:
    """Writes the record atomically."""
    row = {name: json.dumps(value) if isinstance(value, Mapping) else value for name, value in vars(record).items()}
    write_table(path, pa.Table.from_pylist([row], SCHEMA))


def read_record(path: Path) -> Record:
    """Reads a record. Raises DataError if the file is damaged or not a record."""
    try:
        (row,) = pq.read_table(path).cast(SCHEMA).to_pylist()
    except (OSError, ValueError) as error:  # covers Arrow's errors
        raise DataError(f"{path} is no record of a study ({error}): remove it and run the study again") from None
    texts = {name: json.loads(row[name]) for name in ("params", "facts", "claims")}
    arrays = {name: np.array(row[name], np.uint8) for name in ("best_predicted", "last_predicted")}
    return Record(**{**row, **texts, **arrays})
