"""A table of the audit with three rows, for tests that read one."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from nla.audit.table import AuditInfo, class_columns, labels_schema

CLASSES = ("neutral", "happiness", "fear")
INFO = AuditInfo(source="synthetic", classes=CLASSES, folds=2, epochs=3, fingerprint="f" * 16, data={"train": "0" * 64})
ROWS = (
    {"label": "neutral", "verdict": "clean", "suggested": "neutral", "fold": 0, "score": 0.1},
    {"label": "fear", "verdict": "mislabelled", "suggested": "happiness", "fold": 1, "score": 0.9},
    {"label": "fear", "verdict": "ambiguous", "suggested": "fear", "split": "valid", "score": 0.4},
)


def labels_table(**columns: list[Any]) -> pa.Table:
    """Its rows are ROWS, with `columns` in place of what is there."""
    schema = labels_schema(CLASSES)
    rows = [_row(i, row) for i, row in enumerate(ROWS)]
    table = pa.Table.from_pylist(rows, schema)
    for name, values in columns.items():
        table = table.set_column(
            schema.get_field_index(name), schema.field(name), pa.array(values, schema.field(name).type)
        )
    return table


def _row(i: int, given: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"split": "train", "row": i, "path": f"a/{i}.png", "pixels": f"{i:032x}"} | given
    row |= dict.fromkeys(class_columns("p", CLASSES), 1 / 3)
    if row["verdict"] == "ambiguous":
        row |= {"q_neutral": 0.0, "q_happiness": 0.5, "q_fear": 0.5}
    numbers = ("self_confidence", "running_self_confidence", "naw_weight", "ambiguity", "sharpness", "brightness")
    row |= dict.fromkeys(numbers, 0.5) | {"margin": -0.5, "area_under_margin": -2.0}
    row |= {"path_p_label": [0.2, 0.3, 0.4], "path_p_nearest": [0.5, 0.4, 0.3]}
    return row | {"duplicates": 0, "sharpness_rank": i, "brightness_rank": i}
