"""What a study stores in its folder: one record per run, and runs.json, which lists those that the report covers.

A record is a Parquet file of one row, small enough for git.
"""

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
from pydantic import BaseModel

from nla.config.tune import Objective
from nla.errors import DataError
from nla.io import parse_json_as, write_table
from nla.tuning.results import row_score

RECORDS, MANIFEST = Path("records"), Path("runs.json")
"""Paths in the folder of a study."""
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
    """Measurements of one run of a study."""

    method: str
    condition: str
    noise_kind: str
    noise_rate: float
    imbalance_factor: float | None
    seed: int
    fingerprint: str
    epochs: int
    best_epoch: int
    """From 1, chosen on validation."""
    seconds: float
    """Training and validation."""
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
        """Short hash that distinguishes records of the same run made at different times."""
        measured = (self.valid_accuracy, self.test_accuracy, self.best_epoch, self.facts.get("commit"))
        return hashlib.sha256(repr(measured).encode() + self.last_predicted.tobytes()).hexdigest()[:8]

    def score(self, objective: Objective) -> float:
        """The objective (`accuracy`, `mean_accuracy` or `both`, their mean) on validation, in the chosen epoch."""
        row = {name: getattr(self, name)[self.best_epoch - 1] for name in ("valid_accuracy", "valid_mean_accuracy")}
        return row_score(row, objective)


class Facts(BaseModel):
    """What the report and MLflow read of the column `facts`; it can hold more."""

    device_name: str
    precision: str
    commit: str | None
    machine: dict[str, Any]
    versions: dict[str, str]


JSON_COLUMNS: dict[str, Any] = {"params": dict[str, Any], "facts": Facts, "claims": dict[str, Any]}
"""Column -> schema of its JSON."""


def write_record(path: Path, record: Record) -> None:
    """Writes the record atomically."""
    row = {name: json.dumps(value) if isinstance(value, Mapping) else value for name, value in vars(record).items()}
    write_table(path, pa.Table.from_pylist([row], SCHEMA))


def read_record(path: Path) -> Record:
    """Reads a record. Raises DataError if the file is damaged or not a record."""
    remedy = "Remove it and run `dvc repro` in the study's folder."
    try:
        (row,) = pq.read_table(path).cast(SCHEMA).to_pylist()
    except (OSError, ValueError) as error:  # covers Arrow's errors
        raise DataError(f"{path} is not a record of a study ({error}). {remedy}") from None
    for name, schema in JSON_COLUMNS.items():
        parse_json_as(row[name].encode(), schema, f"{path}: column {name}", remedy)
    if not 1 <= row["best_epoch"] <= len(row["valid_accuracy"]):
        epochs = len(row["valid_accuracy"])
        raise DataError(f"{path}: best_epoch must be between 1 and {epochs} (got {row['best_epoch']}). {remedy}")
    objects = {name: json.loads(row[name]) for name in JSON_COLUMNS}
    arrays = {name: np.array(row[name], np.uint8) for name in ("best_predicted", "last_predicted")}
    return Record(**{**row, **objects, **arrays})


class _Run(BaseModel):
    method: str
    condition: str
    seed: int


class Entry(_Run):
    """A run of the comparison, in runs.json."""

    record: str
    """Fingerprint of the record."""


class TuningEntry(_Run):
    """A run of the tuning, in runs.json."""

    record: str | None
    """Fingerprint of the record; None if training diverged."""
    setting: int
    """Number of the values; 0 is the setting of the grid."""
    values: dict[str, Any]


class TuningEntries(BaseModel):
    """The tuning, in runs.json."""

    conditions: list[str]
    seed: int
    objective: Objective
    trainings: list[TuningEntry]


class Manifest(BaseModel):
    """Content of runs.json: what the report covers."""

    reference: str
    """Method that all others are compared with."""
    caveats: list[str] = []
    """What a reader must know before comparing the methods."""
    runs: list[Entry]
    tuning: TuningEntries | None = None
    """None if the study has no tuning."""
