"""The faces of an audit that a person reviews, with their images: one for each image with its label.

That is what a correction is about, so identical images with one label are one face.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nla.audit.table import AuditInfo, read_labels
from nla.errors import DataError
from nla.io import read_batches

MOST = 2000
"""Faces of a review. A person reviews some hundred in an hour, and a page with so many has a few megabytes."""
ORDER = {"mislabelled": 0, "ambiguous": 0, "clean": 1}
"""Which verdicts come first where not all faces have room."""
ROWS = 1024  # of a table of samples, read at a time


@dataclass(frozen=True)
class Faces:
    """N faces, the most suspect first."""

    info: AuditInfo
    table: pa.Table
    """Rows of the audit's table."""
    copies_N: list[int]
    """Rows of the audit with the same image and label."""
    audited: int
    """Rows of the whole audit."""


def faces_to_review(labels: Path, most: int = MOST) -> Faces:
    """At most so many faces: those first whose label is not clean, and of these the most suspect.

    Raises:
        DataError: the table of the audit is missing or damaged.
    """
    info, audited = read_labels(labels)
    keys = [*zip(audited["pixels"].to_pylist(), audited["label"].to_pylist(), strict=True)]
    rank = pa.array([ORDER[verdict] for verdict in audited["verdict"].to_pylist()], pa.int8())
    ranked = pa.table({"rank": rank, "score": audited["score"]})
    first: dict[tuple[str, str], int] = {}
    copies: dict[tuple[str, str], int] = {}
    for row in pc.sort_indices(ranked, sort_keys=[("rank", "ascending"), ("score", "descending")]).to_pylist():
        first.setdefault(keys[row], row)
        copies[keys[row]] = copies.get(keys[row], 0) + 1
    chosen = [*first.values()][:most]
    table = audited.take(pa.array(chosen, pa.int64()))
    return Faces(info, table, [copies[keys[row]] for row in chosen], audited.num_rows)


def encoded_images(faces: Faces, tables: Mapping[str, Path]) -> Iterator[tuple[int, bytes]]:
    """Position of each face, and its image as `prepare` stored it, in the order of `tables`.

    Args:
        faces: the faces.
        tables: split -> table of `prepare`, for each split of the faces.

    Raises:
        DataError: a table is missing or damaged, or lacks a row that was audited.
    """
    split_N, row_N = np.array(faces.table["split"].to_pylist()), faces.table["row"].to_numpy()
    for split in np.unique(split_N).tolist():
        wanted = {int(row_N[i]): int(i) for i in np.flatnonzero(split_N == split)}
        for batch in read_batches(tables[split], ["row", "image"], ROWS, "Run `dvc repro -f prepare`."):
            for place, row in enumerate(batch["row"].to_pylist()):
                if row in wanted:
                    yield wanted.pop(row), batch["image"][place].as_py()["bytes"]
        if wanted:
            raise DataError(f"{tables[split]}: no row {min(wanted)}, which was audited. Run `dvc repro`.")
