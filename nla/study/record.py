"""What a study keeps of each run: a record, which is a Parquet file of one row, small enough for git.

A run selects its epoch in three ways (SELECTIONS): on validation labels as they are given, which can be as noisy as
those of train; on the clean labels of the same images; and not at all, by taking the last epoch. The record has the
predictions of each of these epochs on test.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from nla.errors import DataError
from nla.evaluation.uncertainty import log
from nla.io import first_problem, parse_json_as, read_columns, write_table
from nla.tuning.results import row_score

RECORDS = Path("records")
"""Path in the folder of a study."""
Selection = Literal["given", "clean", "last"]
SELECTIONS: tuple[Selection, ...] = get_args(Selection)
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
        ("clean_epoch", pa.int32()),  # from 1, chosen on the clean labels of validation
        ("clean_accuracy", pa.list_(pa.float64())),  # of each epoch, by these labels
        ("clean_predicted", pa.list_(pa.uint8())),
        ("log_p", pa.list_(pa.struct([("epoch", pa.int32()), ("log_p", pa.binary())]))),  # float16 [N, C] of test
    ]
)
ADDED = ("clean_epoch", "clean_accuracy", "clean_predicted", "log_p")
"""Columns that older records lack; validation was clean then, so that both choices are the same epoch."""


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
    """Class of each test row by the epoch chosen on validation labels as given, [N] uint8; [0] in tuning."""
    last_predicted: np.ndarray
    clean_epoch: int
    """From 1, chosen on the clean labels of validation."""
    clean_accuracy: list[float]
    """Accuracy of each epoch on validation by its clean labels; [] if they are those given."""
    clean_predicted: np.ndarray
    log_p: Mapping[int, np.ndarray]
    """Selected epoch -> log-probabilities of test, float16 [N, C]; {} in tuning, and in older records."""

    def epoch(self, selection: Selection) -> int:
        """The epoch that is selected in this way, from 1."""
        return {"given": self.best_epoch, "clean": self.clean_epoch, "last": self.epochs}[selection]

    def predicted(self, selection: Selection) -> np.ndarray:
        """Class of each test row by that epoch, [N] uint8."""
        return {"given": self.best_predicted, "clean": self.clean_predicted, "last": self.last_predicted}[selection]

    def p(self, selection: Selection) -> np.ndarray | None:
        """Probabilities of test by that epoch, float64 [N, C] up to rounding; None if the record has none."""
        log_p_NC = self.log_p.get(self.epoch(selection))
        return None if log_p_NC is None else softmax(log_p_NC)

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


class _LogP(BaseModel):
    """The log-probabilities of one epoch."""

    model_config = ConfigDict(strict=True)

    epoch: int
    log_p: bytes


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
    clean_epoch: int
    clean_accuracy: Series
    clean_predicted: list[int]
    log_p: list[_LogP]

    @field_validator("best_epoch", "clean_epoch")
    @classmethod
    def _is_an_epoch(cls, epoch: int, info: ValidationInfo) -> int:
        epochs = len(info.data.get("valid_accuracy", range(epoch)))
        if not 1 <= epoch <= epochs:
            raise ValueError(f"must be between 1 and {epochs}")
        return epoch

    @field_validator("valid_mean_accuracy", "test_accuracy", "test_mean_accuracy", "clean_accuracy")
    @classmethod
    def _has_all_epochs(cls, values: list[float], info: ValidationInfo) -> list[float]:
        epochs = len(info.data.get("valid_accuracy", values))
        if values and len(values) != epochs:  # a run that tunes does not use test
            raise ValueError(f"must have {epochs} values, as valid_accuracy")
        return values

    @field_validator("log_p")
    @classmethod
    def _has_a_row_per_prediction(cls, found: list[_LogP], info: ValidationInfo) -> list[_LogP]:
        rows = len(info.data.get("best_predicted", ()))
        if any(not rows or len(each.log_p) % (BYTES * rows) for each in found):
            raise ValueError(f"must have a whole number of classes for each of the {rows} rows of best_predicted")
        return found


class Facts(BaseModel):
    """What the report and MLflow read of the column `facts`; it can hold more."""

    device_name: str
    precision: str
    commit: str | None
    machine: dict[str, Any]
    versions: dict[str, str]


PREDICTED = ("best_predicted", "clean_predicted", "last_predicted")
BYTES = 2  # of a float16
REMEDY = "Remove it and run `dvc repro` in the study's folder."
JSON_COLUMNS: dict[str, Any] = {"params": dict[str, Any], "facts": Facts, "claims": dict[str, Any]}
"""Column -> schema of its JSON."""


def write_record(path: Path, record: Record) -> None:
    """Writes the record atomically."""
    row = {name: json.dumps(value) if name in JSON_COLUMNS else value for name, value in vars(record).items()}
    row["log_p"] = [{"epoch": epoch, "log_p": log_p_NC.tobytes()} for epoch, log_p_NC in record.log_p.items()]
    write_table(path, pa.Table.from_pylist([row], SCHEMA))


def read_record(path: Path) -> Record:
    """Reads a record. Raises DataError if the file is damaged or not a record."""
    row = _read_row(path)
    try:
        _Row.model_validate(row)
    except ValidationError as invalid:
        raise DataError(f"{path}: column {first_problem(invalid)}. {REMEDY}") from None
    for name, schema in JSON_COLUMNS.items():
        parse_json_as(row[name].encode(), schema, f"{path}: column {name}", REMEDY)
    objects = {name: json.loads(row[name]) for name in JSON_COLUMNS}
    arrays = {name: np.array(row[name], np.uint8) for name in PREDICTED}
    rows = len(row["best_predicted"])
    log_p = {each["epoch"]: np.frombuffer(each["log_p"], np.float16).reshape(rows, -1) for each in row["log_p"]}
    return Record(**{**row, **objects, **arrays, "log_p": log_p})


def _read_row(path: Path) -> dict[str, Any]:
    """The only row, with the columns that an older record lacks."""
    old = pa.schema([field for field in SCHEMA if field.name not in ADDED])
    table = read_columns(path, old, path, REMEDY, nullable=("imbalance_factor",))
    if len(table) != 1:
        raise DataError(f"{path}: must have one row, as the record of a run (got {len(table)}). {REMEDY}")
    row: dict[str, Any]
    (row,) = table.to_pylist()
    if not set(ADDED) & set(pq.read_schema(path).names):
        return row | dict(zip(ADDED, (row["best_epoch"], [], row["best_predicted"], []), strict=True))
    added: dict[str, Any]
    (added,) = read_columns(path, pa.schema([SCHEMA.field(name) for name in ADDED]), path, REMEDY).to_pylist()
    return row | added


def log_probabilities(p_NC: np.ndarray) -> np.ndarray:
    """Log-probabilities as a record keeps them, float16 [N, C]: with a relative error of 5e-4, also near p = 0."""
    return log(p_NC).astype(np.float16)


def softmax(log_p_NC: np.ndarray) -> np.ndarray:
    """Probabilities, float64 [N, C], whose rows sum to 1 despite the rounding of their logarithms."""
    p_NC: np.ndarray = np.exp(log_p_NC.astype(np.float64))
    p_NC /= p_NC.sum(axis=1, keepdims=True)
    return p_NC
