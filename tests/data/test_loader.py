from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENCE

from nla.data.augment import make_augment
from nla.data.loader import Batch, balanced_order, batches, epoch_order, steps_per_epoch
from nla.data.samples import Samples
from nla.errors import ConfigError

CLASSES = ("calm", "glad", "sad")


def samples_of(n: int) -> Samples:
    """n samples whose images and labels tell their position; read-only, as they lie in shared memory."""
    images_NHWC = np.random.default_rng(0).integers(0, 256, (n, 16, 16, 1), dtype=np.uint8)
    images_NHWC.flags.writeable = False
    return Samples(images_NHWC, np.arange(n) % 3, None, np.arange(n), CLASSES, "tiny")


def seen(parts: Iterable[Batch]) -> list[int]:
    return [int(i) for batch in parts for i in batch.index_B]


@settings(deadline=None)  # threads
@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 5), st.integers(0, 3), st.integers(0, 3))
def test_ranks_share_each_global_batch_and_no_index_comes_twice(
    n: int, world_size: int, share: int, seed: int, epoch: int
) -> None:
    batch_size = world_size * share
    if batch_size > n:
        with pytest.raises(ConfigError, match=r"train\.batch_size"):
            batches(samples_of(n), batch_size=batch_size, seed=seed, epoch=epoch)
        return
    samples, where = samples_of(n), {"batch_size": batch_size, "seed": seed, "epoch": epoch}
    ranks = [list(batches(samples, **where, rank=r, world_size=world_size)) for r in range(world_size)]
    together = [index for parts in zip(*ranks, strict=True) for index in seen(parts)]
    assert together == seen(batches(samples, **where))
    assert together == epoch_order(n, seed, epoch)[: n - n % batch_size].tolist()
    assert len(set(together)) == len(together) == steps_per_epoch(n, batch_size) * batch_size


def test_batches_hold_the_samples_of_their_indices() -> None:
    samples = samples_of(50)
    for batch in batches(samples, batch_size=10, seed=1, epoch=2):
        np.testing.assert_array_equal(batch.images_BHWC, samples.images_NHWC[batch.index_B])
        np.testing.assert_array_equal(batch.label_B, samples.label_N[batch.index_B])
        assert batch.images_BHWC.flags.c_contiguous
        assert batch.target_BC is None


def test_targets_go_with_their_samples() -> None:
    plain = samples_of(12)
    target_NC = np.random.default_rng(0).dirichlet(np.ones(3), 12).astype(np.float32)
    samples = Samples(plain.images_NHWC, plain.label_N, target_NC, plain.row_N, CLASSES, "tiny")
    for batch in batches(samples, batch_size=4, seed=0, epoch=0):
        np.testing.assert_array_equal(batch.target_BC, target_NC[batch.index_B])


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(epoch_order(30, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert all(sorted(order) == list(range(30)) for order in orders)


def images_by_index(samples: Samples, **where: Any) -> dict[int, bytes]:
    parts = batches(samples, batch_size=8, seed=5, augment=make_augment("affine"), **where)
    return {
        int(i): image.tobytes() for batch in parts for i, image in zip(batch.index_B, batch.images_BHWC, strict=True)
    }


def test_an_augmented_image_does_not_depend_on_ranks() -> None:
    samples = samples_of(40)
    local = images_by_index(samples, epoch=1)
    assert len(local) == 40
    for world_size in (2, 4, 8):
        shared: dict[int, bytes] = {}
        for rank in range(world_size):
            shared |= images_by_index(samples, epoch=1, rank=rank, world_size=world_size)
        assert shared == local
    next_epoch = images_by_index(samples, epoch=2)
    assert sum(next_epoch[i] == local[i] for i in local) < 3
    assert sum(local[i] == samples.images_NHWC[i].tobytes() for i in local) < 3


@given(st.lists(st.integers(0, 5), min_size=1, max_size=90), st.integers(0, 9), st.integers(0, 9))
def test_balanced_classes_and_the_samples_of_each_come_as_often_as_each_other(
    labels: list[int], seed: int, epoch: int
) -> None:
    label_N = np.array(labels)
    order = balanced_order(label_N, seed, epoch)
    assert len(order) == len(label_N)
    often_N = np.bincount(order, minlength=len(label_N))
    often_C = [often_N[label_N == c].sum() for c in set(labels)]
    assert max(often_C) - min(often_C) <= 1
    for c in set(labels):
        assert np.ptp(often_N[label_N == c]) <= 1
    np.testing.assert_array_equal(order, balanced_order(label_N, seed, epoch))


def test_a_balanced_epoch_shows_who_comes_again_in_another_way() -> None:
    rare = Samples(samples_of(60).images_NHWC, np.array([1] * 59 + [0]), None, np.arange(60), CLASSES, "tiny")
    augment = make_augment("affine")
    options: dict[str, Any] = {"batch_size": 10, "seed": 3, "augment": augment, "balanced": True}
    parts = list(batches(rare, epoch=1, **options))
    shown = [
        image.tobytes() for batch in parts for image, i in zip(batch.images_BHWC, batch.index_B, strict=True) if i == 59
    ]
    assert len(shown) == 30 and len(set(shown)) == 30
    assert sum((batch.label_B == 0).sum() for batch in parts) == 30
    halves = [list(batches(rare, epoch=1, rank=r, world_size=2, **options)) for r in range(2)]
    for whole, first, second in zip(parts, *halves, strict=True):
        np.testing.assert_array_equal(whole.images_BHWC, np.concatenate([first.images_BHWC, second.images_BHWC]))
    assert seen(parts) != seen(batches(rare, epoch=2, **options))


def test_workers_that_do_not_divide_the_batch_are_an_error() -> None:
    with pytest.raises(ConfigError, match="10 is not divisible by 4 workers"):
        batches(samples_of(20), batch_size=10, seed=0, epoch=0, world_size=4)


def threads() -> int:
    return sum(thread.name == "batches" for thread in threading.enumerate())


def test_the_thread_ends_with_its_iterator() -> None:
    parts = batches(samples_of(64), batch_size=2, seed=0, epoch=0)
    next(parts)
    assert threads() == 1
    parts.close()
    assert threads() == 0
    parts = batches(samples_of(64), batch_size=2, seed=0, epoch=0)
    next(parts)
    del parts
    gc.collect()
    assert threads() == 0


def test_few_batches_are_made_ahead() -> None:
    calls = []

    def slow(image: np.ndarray, seed: int) -> np.ndarray:
        calls.append(seed)
        return image

    parts = batches(samples_of(64), batch_size=1, seed=0, epoch=0, augment=slow)
    next(parts)
    deadline = time.monotonic() + PATIENCE
    while len(calls) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert 4 <= len(calls) <= 6
    parts.close()


def test_an_error_in_the_thread_is_raised_to_the_user() -> None:
    def broken(image: np.ndarray, seed: int) -> np.ndarray:
        raise ValueError("no such image")

    with pytest.raises(ValueError, match="no such image"):
        next(batches(samples_of(4), batch_size=2, seed=0, epoch=0, augment=broken))
    assert threads() == 0
