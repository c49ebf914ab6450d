"""models/positions.parquet: (p_GT, p_NN) of every training row, early in training and late."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field, ValidationError, model_validator

from nla.errors import DataError
from nla.io import first_problem, read_columns, sha256, write_table

MOMENTS = ("early", "late")
COLUMNS = ("row", *(f"{moment}_{axis}" for moment in MOMENTS for axis in ("p_GT", "p_NN")))
SCHEMA = pa.schema([(name, pa.int64() if name == "row" else pa.float32()) for name in COLUMNS])


class PositionsTable(NamedTuple):
    """The positions of N training rows."""

    row_N: np.ndarray
    """Row of each in faces.parquet."""
    positions: dict[str, np.ndarray]
    """[N, 2] by moment; NaN for a row that no batch contained before."""
    moments: dict[str, int]
    """Whole epochs before each moment."""
    epochs: int
    """Planned epochs."""

    def progress(self, moment: str) -> float:
        """Share of training before the moment, in [0, 1)."""
        return self.moments[moment] / self.epochs


class _Metadata(BaseModel):
    """The schema's metadata, whose values are strings of digits."""

    early_epoch: int = Field(ge=0)
    late_epoch: int = Field(ge=0)
    epochs: int = Field(ge=1)

    @model_validator(mode="after")
    def _moments_are_within_the_epochs(self) -> _Metadata:
        if max(self.early_epoch, self.late_epoch) >= self.epochs:
            raise ValueError(f"early_epoch and late_epoch must be below epochs, {self.epochs}")
        return self


def write_positions(path: Path, table: PositionsTable) -> None:
    """Columns `row`, `early_p_GT`, `early_p_NN`, `late_p_GT`, `late_p_NN`; the epochs are metadata of the schema."""
    columns = {"row": table.row_N}
    for moment in MOMENTS:
        columns[f"{moment}_p_GT"], columns[f"{moment}_p_NN"] = table.positions[moment].T
    facts = {f"{moment}_epoch": table.moments[moment] for moment in MOMENTS} | {"epochs": table.epochs}
    metadata = {key: str(value) for key, value in facts.items()}
    write_table(path, pa.table(columns).replace_schema_metadata(metadata))


def read_positions(path: Path, expected_sha256: str | None = None) -> PositionsTable:
    """The inverse of `write_positions`.

    Args:
        path: path of the table.
        expected_sha256: hash of the file, from the card beside it; None compares nothing.

    Raises:
        DataError: the file is missing, damaged or lacks something, or its hash is another one.
    """
    remedy = "Run `dvc repro -sf train`."
    try:
        if expected_sha256 not in (None, sha256(path)):
            raise DataError(f"{path}: the file is damaged (its sha256 is not that of the model's card). {remedy}")
    except FileNotFoundError:
        raise DataError(f"{path}: file not found. {remedy}") from None
    table = read_columns(path, SCHEMA, path, remedy)
    metadata = table.schema.metadata or {}
    try:
        facts = _Metadata.model_validate({k.decode("latin-1"): v.decode("latin-1") for k, v in metadata.items()})
    except ValidationError as error:
        raise DataError(f"{path}: metadata: {first_problem(error)}. {remedy}") from None
    column = {name: table[name].to_numpy() for name in COLUMNS}
    positions = {name: np.stack([column[f"{name}_p_GT"], column[f"{name}_p_NN"]], axis=1) for name in MOMENTS}
    moments = {"early": facts.early_epoch, "late": facts.late_epoch}
    return PositionsTable(column["row"], positions, moments, facts.epochs)
