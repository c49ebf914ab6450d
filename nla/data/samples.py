"""Loads a table of SAMPLES into NumPy arrays, with images decoded once: in memory, or in a memory-mapped file.

A set larger than memory is mapped: the operating system pages it in and out, and all processes of a node share the
cached pages. The order of training, and so every bit of its result, is the same as with images in memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from nla.data.images import decode
from nla.data.schema import distributions, read_image_facts, read_samples, targets
from nla.errors import DataError
from nla.hardware import cores
from nla.io import atomic_write, read_batches, sha256

READ_ROWS = 4096
"""Encoded images in memory at a time: as many as a row group has."""
DECODE_ROWS = 256
"""Images that a thread decodes at a time; with fewer, the overhead exceeds the gain."""
Fill = Callable[[np.ndarray], None]


@dataclass(frozen=True)
class Samples:
    """The part of a split that training can see."""

    images_NHWC: np.ndarray
    """[N, H, W, C] uint8, RGB or one grey channel."""
    label_N: np.ndarray
    """int64 [N]."""
    target_NC: np.ndarray | None
    """Target distributions, float32 [N, C], one-hot for a row with only a label; None if all rows have only labels."""
    row_N: np.ndarray
    """Row in `faces`, int64 [N]."""
    classes: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.label_N)


@dataclass(frozen=True)
class Annotations:
    """Further annotations of a split, for evaluation, never for training."""

    votes_NC: np.ndarray | None
    """Shares of the annotators' votes, float32, with NaN rows where withheld or missing; None if all are."""
    posterior_NC: np.ndarray | None
    """True P(class | image), float32, with NaN rows as above."""
    clean_label_N: np.ndarray
    """Labels before noise, int64."""
    is_flipped_N: np.ndarray
    """Mask of labels made wrong by seeded noise, or wrong in FER2013, bool."""


def load_samples(path: Path, limit: int | None = None, folder: Path | None = None) -> Samples:
    """Reads and decodes a table of `prepare`.

    With `limit` and `folder`, images of more than `limit` bytes in total are mapped from a file in `folder`.

    Raises:
        DataError: the table is missing or damaged, or an image has another size.
    """
    info, table = read_samples(path, ["row", "label", "target"])
    label_N = table["label"].to_numpy().astype(np.int64)
    images_NHWC = _images(path, limit, folder)
    return Samples(images_NHWC, label_N, targets(table, info), table["row"].to_numpy(), info.classes, info.source)


def load_annotations(path: Path) -> Annotations:
    """Reads the annotations beyond the labels, in the order of load_samples."""
    info, table = read_samples(path, ["votes", "posterior", "clean_label", "is_flipped"])
    return Annotations(
        distributions(table["votes"], info),
        distributions(table["posterior"], info),
        table["clean_label"].to_numpy().astype(np.int64),
        table["is_flipped"].to_numpy(),
    )


def _images(path: Path, limit: int | None, folder: Path | None) -> np.ndarray:
    """Images [N, H, W, C] uint8, in memory or mapped."""
    facts = read_image_facts(path)
    shape = (pq.read_metadata(path).num_rows, facts.image_size, facts.image_size, facts.channels)
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
            try:
                pixels = decode(data or b"")
            except DataError as error:
                raise DataError(f"{path}, row {i}: {error}. Run `dvc repro -f prepare`.") from None
            if pixels.shape[:2] != tuple(expected[:2]) or pixels.size != images_NHWC[i].size:
                raise DataError(
                    f"{path}, row {i}: expected an image of {'x'.join(map(str, expected))}, got "
                    f"{'x'.join(map(str, pixels.shape))}. Run `dvc repro -f prepare`."
                )
            images_NHWC[i] = pixels.reshape(expected)

    start = 0
    with ThreadPoolExecutor(cores()) as pool:
        for batch in read_batches(path, ["image.bytes"], READ_ROWS, "Run `dvc repro -f prepare`."):
            chunk = pc.struct_field(batch["image"], "bytes")
            parts = range(0, len(chunk), DECODE_ROWS)
            list(pool.map(decode_into, [start + p for p in parts], [chunk.slice(p, DECODE_ROWS) for p in parts]))
            start += len(chunk)


class MappedImages(np.memmap):
    """[N, H, W, C] uint8. It pickles as its path and shape; slices and copies pickle with their content."""

    _mmap: Any
    """NumPy's attribute; None in a copy."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        path = Path(str(self.filename))
        if self._mmap is not None and self.flags.c_contiguous and self.nbytes == path.stat().st_size:
            return open_images, (path, self.shape)
        return np.asarray(self).__reduce_ex__(protocol)


def open_images(path: Path, shape: tuple[int, ...]) -> MappedImages:
    """Opens the images of a file. Raises DataError if this node does not see it."""
    try:
        return MappedImages(path, np.uint8, "r", shape=shape)
    except FileNotFoundError:
        raise DataError(
            f"{path}: this node does not see the file of decoded images. Keep the project on storage that all nodes "
            "share, or raise ray.images_in_memory."
        ) from None


def _allocate(path: Path, size: int) -> None:
    """Makes a file of that size, with its blocks: a write to a map that finds the disk full would kill the process."""
    with path.open("wb") as file:
        file.truncate(size)
        if size and hasattr(os, "posix_fallocate"):  # macOS has none
            os.posix_fallocate(file.fileno(), 0, size)


def mapped(path: Path, shape: tuple[int, ...], fill: Fill) -> MappedImages:
    """The images at `path`; if the file does not exist, `fill` first writes it, atomically.

    If several processes ask for it at once, one writes it and the others wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            with atomic_write(path) as part:
                _allocate(part, math.prod(shape))
                images_NHWC = MappedImages(part, np.uint8, "r+", shape=shape)
                fill(images_NHWC)
                images_NHWC.flush()
    return open_images(path, shape)
