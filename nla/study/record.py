"""What a study stores in its folder: one record per run, and runs.json, which lists those that the report covers.

A record is a Parquet file of one row, small enough for git.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from nla.errors import DataError
from nla.io import first_problem, parse_json_as, read_columns, write_table
from nla.tuning.results import row_score

RECORDS, MANIFEST = Path("records"), Path("runs.json")
"""Paths in the folder of a study."""
Objective = Literal["accuracy", "mean_accuracy", "both"]
"""Metric on validation by which a study tunes; both: their mean. Records have no others."""
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


Series = list[Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]]


class _Row(BaseModel):
    """The columns of a record that are not JSON, of which none is null except for `imbalance_factor`."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    method: str
    condition: str
    noise_kind: str
    noise_rate: float
    imbalance_factor: float | None
    seed: int
    fingerprint: str
    epochs: int
    seconds: float
    params: str
    facts: str
    claims: str
    valid_accuracy: Series
    best_epoch: int  # after the series, with which it is compared
    valid_mean_accuracy: Series
    test_accuracy: Series
    test_mean_accuracy: Series
    best_predicted: list[int]
    last_predicted: list[int]

    @field_validator("best_epoch")
    @classmethod
    def _is_an_epoch(cls, epoch: int, info: ValidationInfo) -> int:
        epochs = len(info.data.get("valid_accuracy", range(epoch)))
        if not 1 <= epoch <= epochs:
            raise ValueError(f"must be between 1 and {epochs}")
        return epoch

    @field_validator("valid_mean_accuracy", "test_accuracy", "test_mean_accuracy")
    @classmethod
    def _has_all_epochs(cls, values: list[float], info: ValidationInfo) -> list[float]:
        epochs = len(info.data.get("valid_accuracy", values))
        if values and len(values) != epochs:  # a run that tunes does not use test
            raise ValueError(f"must have {epochs} values, as valid_accuracy")
        return values


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
    table = read_columns(path, SCHEMA, path, remedy, nullable=("imbalance_factor",))
    if len(table) != 1:
        raise DataError(f"{path}: must have one row, as the record of a run (got {len(table)}). {remedy}")
    (row,) = table.to_pylist()
    try:
        _Row.model_validate(row)
    except ValidationError as invalid:
        raise DataError(f"{path}: column {first_problem(invalid)}. {remedy}") from None
    for name, schema in JSON_COLUMNS.items():
        parse_json_as(row[name].encode(), schema, f"{path}: column {name}", remedy)
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
