"""reports/audit/labels.parquet: one row for each audited label, with its probabilities, scores and verdict.

The columns with the name of a class at their end are given once for each class, in the order of `AuditInfo.classes`.
Rows are in the order of the tables of `prepare`: those of train, then of valid, then of test if it is audited. With
`audit.folds: 0` the table has no rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from nla.data.schema import SPLITS
from nla.errors import DataError
from nla.io import parse_json_as, read_columns, write_table

REMEDY = "Run `dvc repro -sf audit`."
METADATA = b"nla.audit"
Verdict = Literal["clean", "ambiguous", "mislabelled"]
VERDICTS: tuple[str, ...] = get_args(Verdict)

BEFORE = {
    "split": pa.string(),  # train, valid or test
    "row": pa.int64(),  # row in faces.parquet
    "path": pa.string(),  # origin of the image, as in faces.parquet
    "pixels": pa.string(),  # hex of BLAKE2b-128 of the decoded pixels and their shape, as in faces.parquet
    "fold": pa.int8(),  # whose held-out row it was; null for rows of valid and test, which all folds score
    "label": pa.string(),  # name of the label as given
}
"""Columns before the probabilities `p_CLASS`."""
SCORES = {
    "score": pa.float32(),  # how likely the label is wrong, 0 to 1: the combination of the parts
    "self_confidence": pa.float32(),  # mean late probability of the label, 0 to 1
    "margin": pa.float32(),  # the same, less that of the nearest other class, -1 to 1
    "area_under_margin": pa.float32(),  # mean margin of the logits over all epochs; any number
    "running_self_confidence": pa.float32(),  # running mean of the label's probability over all epochs, 0 to 1
    "naw_weight": pa.float32(),  # NAW's weight at the late position, 0 to 1
    "ambiguity": pa.float32(),  # entropy of the probabilities without label noise, as a share of log C, 0 to 1
}
VERDICT = {
    "verdict": pa.string(),  # clean, ambiguous or mislabelled
    "suggested": pa.string(),  # name of the most probable class, given image and label; the label if that is it
}
"""Columns before the suggested distributions `q_CLASS`, which are null unless the verdict is ambiguous."""
KNOWN = {
    "true_label": pa.string(),  # where label noise is known; else null
}
"""Columns after `votes_CLASS`, the annotators' shares, which are null where there are none."""
PATH = {
    "path_p_label": pa.list_(pa.float32()),  # probability of the label after each epoch
    "path_p_nearest": pa.list_(pa.float32()),  # that of the most probable other class
}
IMAGE = {
    "duplicates": pa.int64(),  # other rows with an identical or near-identical image, in all audited splits
    "duplicate_group": pa.int64(),  # position in this table of the first of them; null without any
    "sharpness": pa.float32(),  # variance of the Laplacian: low for a blurred image
    "sharpness_rank": pa.int64(),  # from 0, the least sharp first
    "brightness": pa.float32(),  # mean of the pixels, 0 to 1
    "brightness_rank": pa.int64(),  # from 0, the darkest first
}
NULLABLE = {"fold", "true_label", "duplicate_group"}
SHARES = ("score", "self_confidence", "running_self_confidence", "naw_weight", "ambiguity", "brightness")
"""Columns with values from 0 to 1, besides those of each class."""


class AuditInfo(BaseModel):
    """Facts about the audit, in the metadata of the table."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    source: str
    classes: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    folds: Annotated[int, Field(ge=0)]
    epochs: Annotated[int, Field(ge=0)]
    """Of each fold; 0 without folds."""
    fingerprint: str
    """Of the folds' parameters, data and code; empty without folds."""
    data: dict[str, str]
    """Split -> SHA-256 of the audited table of `prepare`; {} without folds."""


def labels_schema(classes: Sequence[str]) -> pa.Schema:
    """Schema of the table, for the names of the classes."""
    columns = {
        **BEFORE,
        **class_columns("p", classes),
        **SCORES,
        **VERDICT,
        **class_columns("q", classes),
        **class_columns("votes", classes),
        **KNOWN,
        **PATH,
        **IMAGE,
    }
    return pa.schema(list(columns.items()))


def class_columns(prefix: str, classes: Sequence[str]) -> dict[str, pa.DataType]:
    """PREFIX_CLASS of each class, with its type."""
    return {f"{prefix}_{name}": pa.float32() for name in classes}


def write_labels(path: Path, table: pa.Table, info: AuditInfo) -> None:
    """Writes the table, with the facts in its metadata. Its columns must be those of `labels_schema`."""
    table = table.cast(labels_schema(info.classes))
    write_table(path, table.replace_schema_metadata({METADATA: info.model_dump_json()}))


def read_labels(path: Path, remedy: str = REMEDY) -> tuple[AuditInfo, pa.Table]:
    """The inverse of `write_labels`.

    Raises:
        DataError: the file is missing or damaged, a column is missing or has another type, or a value is impossible.
    """
    metadata = read_columns(path, pa.schema([]), path, remedy).schema.metadata or {}
    if METADATA not in metadata:
        raise DataError(f"{path}: not a table of the audit. {remedy}")
    info = parse_json_as(metadata[METADATA], AuditInfo, f"{path}: metadata", remedy)
    by_class = {name for prefix in ("q", "votes") for name in class_columns(prefix, info.classes)}
    table = read_columns(path, labels_schema(info.classes), path, remedy, nullable=NULLABLE | by_class)
    for problem in _problems(table, info):
        raise DataError(f"{path}: {problem}. {remedy}")
    return info, table


def _problems(table: pa.Table, info: AuditInfo) -> Iterator[str]:
    """What no audit writes, each as `column NAME: problem (got VALUE)`."""
    texts = {"split": SPLITS, "label": info.classes, "verdict": VERDICTS, "suggested": info.classes}
    for name, valid in {**texts, "true_label": info.classes}.items():
        for value in pc.unique(table[name].drop_null()).to_pylist():
            if value not in valid:
                yield f"column {name}: must be one of {', '.join(valid)} (got {value!r})"
    shares = [name for prefix in ("p", "q", "votes") for name in class_columns(prefix, info.classes)]
    for name in (*shares, *SHARES):
        value_N = table[name].drop_null().to_numpy()
        wrong_N = ~((value_N >= 0) & (value_N <= 1))  # NaN too
        if wrong_N.any():
            yield f"column {name}: must be 0 to 1 (got {value_N[wrong_N][0]:g})"


def probabilities(table: pa.Table, classes: Sequence[str], prefix: str = "p") -> np.ndarray:
    """The columns PREFIX_CLASS as an array [N, C] float32, with NaN for nulls."""
    columns = [table[name].to_numpy().astype(np.float32) for name in class_columns(prefix, classes)]
    return np.stack(columns, axis=1)
