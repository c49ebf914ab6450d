"""models/positions.parquet: (p_GT, p_NN) of every training row, early in training and late."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nla.io import write_table

MOMENTS = ("early", "late")


class PositionsTable(NamedTuple):
    """The positions of N training rows."""

    row_N: np.ndarray
    """Row of each in faces.parquet."""
    positions: dict[str, np.ndarray]
    """[N, 2] by moment; NaN where no batch held the row yet."""
    moments: dict[str, int]
    """Whole epochs before each moment."""
    epochs: int
    """Planned epochs."""

    def progress(self, moment: str) -> float:
        """Share of the training before the moment, in [0, 1)."""
        return self.moments[moment] / self.epochs


def write_positions(path: Path, table: PositionsTable) -> None:
    """Columns `row`, `early_p_GT`, `early_p_NN`, `late_p_GT`, `late_p_NN`; the epochs are metadata of the schema."""
    columns = {"row": table.row_N}
    for moment in MOMENTS:
        columns[f"{moment}_p_GT"], columns[f"{moment}_p_NN"] = table.positions[moment].T
    facts = {f"{moment}_epoch": table.moments[moment] for moment in MOMENTS} | {"epochs": table.epochs}
    metadata = {key: str(value) for key, value in facts.items()}
    write_table(path, pa.table(columns).replace_schema_metadata(metadata))


def read_positions(path: Path) -> PositionsTable:
    """The inverse of `write_positions`."""
    table = pq.read_table(path)
    facts = {key.decode(): int(value) for key, value in table.schema.metadata.items()}
    columns = {name: table[name].to_numpy() for name in table.column_names}
    positions = {name: np.stack([columns[f"{name}_p_GT"], columns[f"{name}_p_NN"]], axis=1) for name in MOMENTS}
    return PositionsTable(
        columns["row"], positions, {name: facts[f"{name}_epoch"] for name in MOMENTS}, facts["epochs"]
    )
