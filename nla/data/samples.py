"""A table of SAMPLES -> arrays, decoded once. NumPy only: whoever trains moves them to a device."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nla.data.columns import dense
from nla.data.images import decode
from nla.data.mapped import mapped
from nla.data.schema import TableInfo, read_info
from nla.errors import DataError
from nla.files.digest import sha256
from nla.machine.available import cores

DECODE_ROWS = 256
"""Images that a thread decodes at a time; fewer, and handing them out costs more than it gains."""


@dataclass(frozen=True)
class Samples:
    """What training may see of a split."""

    images_NHWC: np.ndarray
    """uint8, RGB or one grey channel."""
    label_N: np.ndarray
    """int64."""
    target_NC: np.ndarray | None
    """float32 distributions to learn, one-hot where a row has only its label; None if all rows have only that."""
    row_N: np.ndarray
    """int64 row of `faces`."""
    classes: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.label_N)


@dataclass(frozen=True)
class Annotations:
    """What is known of a split beside its labels; for evaluation, never for training."""

    votes_NC: np.ndarray | None
    """float32 shares of the annotators' votes, NaN rows where withheld or missing; None if all are."""
    posterior_NC: np.ndarray | None
    """float32 true P(class | image), NaN rows as above."""
    clean_label_N: np.ndarray
    """int64 labels before noise."""
    is_flipped_N: np.ndarray
    """bool: the label is wrong by seeded noise."""


def load_samples(path: Path, limit: int | None = None, folder: Path | None = None) -> Samples:
    """Read and decode a table of `prepare`. Raises DataError where it is missing or an image has another size.

    With `limit` and `folder`, images of more than `limit` bytes lie in a file there, which is mapped (nla.data.mapped).
    """
    info = read_info(path)
    table = pq.read_table(path, columns=["row", "label", "target"])
    label_N = table["label"].to_numpy().astype(np.int64)
    target_NC = _distributions(table["target"], info)
    if target_NC is not None:
        without = np.isnan(target_NC[:, 0])
        target_NC[without] = np.eye(len(info.classes), dtype=np.float32)[label_N[without]]
    images_NHWC = _images(path, info, limit, folder)
    return Samples(images_NHWC, label_N, target_NC, table["row"].to_numpy(), info.classes, info.source)


def load_annotations(path: Path) -> Annotations:
    """Read what evaluation knows beside the labels, in the order of load_samples."""
    info = read_info(path)
    table = pq.read_table(path, columns=["votes", "posterior", "clean_label", "is_flipped"])
    return Annotations(
        _distributions(table["votes"], info),
        _distributions(table["posterior"], info),
        table["clean_label"].to_numpy().astype(np.int64),
        table["is_flipped"].to_numpy(),
    )


def _images(path: Path, info: TableInfo, limit: int | None, folder: Path | None) -> np.ndarray:
    """[N, H, W, C] uint8, in memory or mapped."""
    facts = info.extra or {}
    size, channels = facts["image_size"], facts["channels"]
    shape = (pq.read_metadata(path).num_rows, size, size, channels)
    if folder is None or limit is None or math.prod(shape) <= limit:
        images_NHWC = np.empty(shape, np.uint8)
        _decode(path, images_NHWC)
        return images_NHWC
    return mapped(folder / f"{sha256(path)}.u8", shape, partial(_decode, path))


def _decode(path: Path, images_NHWC: np.ndarray) -> None:
    """Fills `images_NHWC`, row group by row group."""
    _, *expected = images_NHWC.shape

    def decode_into(start: int, images: pa.Array) -> None:
        for i, data in enumerate(images.to_pylist(), start):
            pixels = decode(data)
            if pixels.shape[:2] != tuple(expected[:2]) or pixels.size != images_NHWC[i].size:
                raise DataError(
                    f"{path}, row {i}: an image of {pixels.shape} in a table of {'x'.join(map(str, expected))}"
                )
            images_NHWC[i] = pixels.reshape(expected)

    file, start = pq.ParquetFile(path), 0
    with ThreadPoolExecutor(cores()) as pool:
        for group in range(file.num_row_groups):
            column = pc.struct_field(file.read_row_group(group, columns=["image.bytes"])["image"], "bytes")
            chunk = column.combine_chunks()
            parts = range(0, len(chunk), DECODE_ROWS)
            list(pool.map(decode_into, [start + p for p in parts], [chunk.slice(p, DECODE_ROWS) for p in parts]))
            start += len(chunk)


def _distributions(column: pa.ChunkedArray, info: TableInfo) -> np.ndarray | None:
    """[N, C] float32 with NaN rows for nulls; None if all are."""
    if column.null_count == len(column):
        return None
    return dense(column, len(info.classes), np.float32, np.nan)
