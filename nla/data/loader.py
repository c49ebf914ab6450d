"""Makes augmented batches in the background, in an order that depends only on seed and epoch."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from nla.config.train import check_batch
from nla.data.samples import Samples
from nla.errors import ConfigError

ORDER, AUGMENT = 11, 12
"""Keys of independent random streams, which are seeded by (train.seed, key, epoch)."""
PREFETCH = 3
"""Batches made ahead of the training step."""

Augment = Callable[[np.ndarray, int], np.ndarray]
"""(image [H, W, C] uint8, seed) -> image of the same shape."""
T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """A batch of B samples."""

    images_BHWC: np.ndarray
    """uint8, contiguous, a copy owned by the batch."""
    label_B: np.ndarray
    target_BC: np.ndarray | None
    index_B: np.ndarray
    """Positions in the Samples."""


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of n samples in an epoch, a permutation."""
    return np.random.default_rng((seed, ORDER, epoch)).permutation(n)


def balanced_order(label_N: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Class-balanced positions in random order, as many as there are labels.

    Each class that has samples occurs equally often, up to one, and so does each sample within its class.
    """
    rng = np.random.default_rng((seed, ORDER, epoch))
    present = rng.permutation(np.unique(label_N))  # the first ones get the remainder
    quotas = len(label_N) // len(present) + (np.arange(len(present)) < len(label_N) % len(present))
    chosen = [_often(np.flatnonzero(label_N == c), quota, rng) for c, quota in zip(present, quotas, strict=True)]
    return rng.permutation(np.concatenate(chosen))


def _often(position_M: np.ndarray, quota: int, rng: np.random.Generator) -> np.ndarray:
    """`quota` of the positions, each equally often, up to one."""
    rounds = [rng.permutation(position_M) for _ in range(-(-quota // len(position_M)))]
    return np.concatenate(rounds)[:quota]


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Number of full global batches in n samples; the remaining samples are left out of this epoch."""
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
    """This rank's part of each global batch of an epoch, made ahead in a thread.

    Step s takes order[s * batch_size : (s + 1) * batch_size], rank r its r-th contiguous part; an incomplete last batch
    is left out. An augmented image depends on (seed, epoch, index) and on how often it occurred before in the epoch,
    not on the number of ranks. The thread ends with the iterator (exhausted, closed or collected), and its errors are
    raised here.

    Raises:
        ConfigError: the batch is larger than the split, or not divisible by the number of ranks.
    """
    n = len(samples)
    if batch_size > n:
        raise ConfigError(f"train.batch_size: larger than the {n} training samples (got {batch_size}). Lower it.")
    check_batch(batch_size, [world_size], "ray.num_workers")
    order = balanced_order(samples.label_N, seed, epoch) if balanced else epoch_order(n, seed, epoch)
    share = batch_size // world_size
    starts = (s * batch_size + rank * share for s in range(steps_per_epoch(n, batch_size)))
    parts = [slice(start, start + share) for start in starts]
    if augment is None:
        return _ahead(_batch(samples, order[part]) for part in parts)
    seed_N = np.random.default_rng((seed, AUGMENT, epoch)).integers(2**63, size=n)
    seed_P = seed_N[order] ^ _times_before(order)  # a repeated sample is augmented differently
    return _ahead(_augmented(_batch(samples, order[part]), augment, seed_P[part]) for part in parts)


def _times_before(order: np.ndarray) -> np.ndarray:
    """How often each entry occurred before, at each position."""
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
    """`items`, of which up to PREFETCH are made ahead in a separate thread."""
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
        except BaseException as error:  # raised again by the consumer
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
