"""Makes a record batch of FACES from Python sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from nla.data.schema import FACES, IMAGE


def face_batch(
    row: Sequence[int] | np.ndarray,
    split: Sequence[str] | np.ndarray,
    pixels: Sequence[bytes],
    data: Sequence[bytes],
    path: Sequence[str] | np.ndarray,
    *,
    label: Sequence[int | None] | np.ndarray | None = None,
    votes: Sequence[np.ndarray | tuple[int, ...] | None] | None = None,
    posterior: Sequence[np.ndarray] | None = None,
) -> pa.RecordBatch:
    """A batch of N faces; `pixels` are their hashes, `data` their encoded images. Omitted columns are null."""
    images = pa.StructArray.from_arrays([pa.array(data, pa.binary()), pa.array(path, pa.string())], fields=list(IMAGE))
    known = {"label": label, "votes": votes, "posterior": posterior}
    given = {"row": row, "split": split, "pixels": pixels, **known}
    columns = [
        images if field.name == "image" else _column(given.get(field.name), field.type, len(data)) for field in FACES
    ]
    return pa.RecordBatch.from_arrays(columns, schema=FACES)


def _column(values: Sequence[Any] | np.ndarray | None, kind: pa.DataType, size: int) -> pa.Array:
    return pa.nulls(size, kind) if values is None else pa.array(values, kind)
