"""A table of SAMPLES -> arrays, decoded once -> batches. NumPy only: whoever trains moves them to a device."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nla.available import cores
from nla.data.columns import dense
from nla.data.images import decode
from nla.data.mapped import mapped
from nla.data.schema import TableInfo, read_info
from nla.digest import sha256
from nla.errors import DataError, TrainingError

ORDER, AUGMENT = 11, 12
"""What a random stream is for: seeded by (train.seed, purpose, epoch)."""
PREFETCH = 3
"""Batches made ahead of the training step."""
DECODE_ROWS = 256
"""Images that a thread decodes at a time; fewer, and handing them out costs more than it gains."""

Augment = Callable[[np.ndarray, int], np.ndarray]
"""(image [H, W, C] uint8, seed) -> image of the same shape."""
T = TypeVar("T")


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


@dataclass(frozen=True)
class Batch:
    """B samples."""

    images_BHWC: np.ndarray
    """uint8, contiguous, the batch's own copy."""
    label_B: np.ndarray
    target_BC: np.ndarray | None
    index_B: np.ndarray
    """Positions in the Samples."""


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


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of n samples that an epoch goes through."""
    return np.random.default_rng((seed, ORDER, epoch)).permutation(n)


def balanced_order(label_N: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """As many positions as there are labels, in random order: each class that has samples as often as any other, up to
    one, and each sample of a class as often as any other of it, up to one."""
    rng = np.random.default_rng((seed, ORDER, epoch))
    present = rng.permutation(np.unique(label_N))  # the first ones have one more where they do not divide
    quotas = len(label_N) // len(present) + (np.arange(len(present)) < len(label_N) % len(present))
    chosen = [_often(np.flatnonzero(label_N == c), quota, rng) for c, quota in zip(present, quotas, strict=True)]
    return rng.permutation(np.concatenate(chosen))


def _often(position_M: np.ndarray, quota: int, rng: np.random.Generator) -> np.ndarray:
    """`quota` of them, each as often as any other, up to one."""
    rounds = [rng.permutation(position_M) for _ in range(-(-quota // len(position_M)))]
    return np.concatenate(rounds)[:quota]


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Full global batches in n samples; what is left over has its turn in another epoch's order."""
    return n // batch_size


def batches(
    samples: Samples,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    world_size: int = 1,
    augment: Augment | None = None,
    balanced: bool = False,
) -> Generator[Batch]:
    """This rank's part of each global batch of an epoch, made ahead by one thread.

    Step s takes order[s * batch_size : (s + 1) * batch_size], rank r its r-th contiguous part; an incomplete last batch
    is left out. An augmented image depends on (seed, epoch, index) and on how often it came before in the epoch, not on
    the number of ranks.
    The thread ends with the iterator (exhausted, closed or collected); its errors are raised here.
    Raises TrainingError where the batch is larger than the split or the ranks do not divide it.
    """
    n = len(samples)
    if batch_size > n:
        raise TrainingError(f"train.batch_size: {batch_size} is more than the {n} training samples: lower it")
    if batch_size % world_size:
        raise TrainingError(
            f"train.batch_size: {batch_size} does not divide among {world_size} workers: change it or ray.num_workers"
        )
    order = balanced_order(samples.label_N, seed, epoch) if balanced else epoch_order(n, seed, epoch)
    share = batch_size // world_size
    starts = (s * batch_size + rank * share for s in range(steps_per_epoch(n, batch_size)))
    parts = [slice(start, start + share) for start in starts]
    if augment is None:
        return _ahead(_batch(samples, order[part]) for part in parts)
    seed_N = np.random.default_rng((seed, AUGMENT, epoch)).integers(2**63, size=n)
    seed_P = seed_N[order] ^ _times_before(order)  # who comes again looks different
    return _ahead(_augmented(_batch(samples, order[part]), augment, seed_P[part]) for part in parts)


def _times_before(order: np.ndarray) -> np.ndarray:
    """How often each entry has come before, at each place."""
    by_value = np.argsort(order, kind="stable")
    ordered = order[by_value]
    times = np.empty_like(order)
    times[by_value] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return times


def _batch(samples: Samples, index_B: np.ndarray) -> Batch:
    target_BC = None if samples.target_NC is None else samples.target_NC[index_B]
    return Batch(samples.images_NHWC[index_B], samples.label_N[index_B], target_BC, index_B)


def _augmented(batch: Batch, augment: Augment, seed_B: np.ndarray) -> Batch:
    for image, seed in zip(batch.images_BHWC, seed_B.tolist(), strict=True):
        image[...] = augment(image, seed)
    return batch


def _ahead(items: Iterable[T]) -> Generator[T]:
    """`items`, up to PREFETCH of them made ahead in a thread of its own."""
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(PREFETCH)
    stop = threading.Event()

    def put(item: T | None, error: BaseException | None = None) -> bool:
        while not stop.is_set():
            try:
                ready.put((item, error), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            if all(put(item) for item in items):
                put(None)
        except BaseException as error:  # raised again where the batches are used
            put(None, error)

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error:
                raise error
            if item is None:
                return
            yield item
    finally:
        stop.set()
        thread.join()


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
