from __future__ import annotations

import itertools

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nla.audit.duplicates import DISTANCE, close_pairs, difference_hash, near_identical
from nla.audit.image_quality import brightness, rank, sharpness


def faces(count: int) -> np.ndarray:
    """Smooth random images, uint8 [N, 48, 48, 1]."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (count, 12, 12), dtype=np.uint8)
    return np.stack([cv2.resize(image, (48, 48), interpolation=cv2.INTER_CUBIC) for image in small])[..., None]


def test_a_bit_says_which_neighbour_is_brighter() -> None:
    ramp = np.tile(np.arange(0, 170, 10, dtype=np.uint8), (16, 1))[None, ..., None]
    assert (np.unpackbits(difference_hash(ramp)) == 1).all()
    assert (np.unpackbits(difference_hash(ramp[:, :, ::-1])) == 0).all()
    one_brighter = ramp.copy()
    one_brighter[0, 3, 5] = 200
    changed = np.flatnonzero(np.unpackbits(difference_hash(one_brighter)) == 0)
    assert changed.tolist() == [3 * 16 + 5]  # its right neighbour is darker now


def test_copies_are_found_and_others_are_not() -> None:
    images = faces(30)
    brighter = np.clip(images[3:4].astype(int) + 20, 0, 255).astype(np.uint8)
    encoded = cv2.imencode(".jpg", images[7, :, :, 0], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    jpeg = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)[None, ..., None]
    group_N = near_identical(difference_hash(np.concatenate([images, images[:1], brighter, jpeg])))
    assert group_N.tolist() == [*range(30), 0, 3, 7]


def test_colour_images_are_hashed_by_their_grey() -> None:
    images = faces(3)
    np.testing.assert_array_equal(difference_hash(np.repeat(images, 3, axis=3)), difference_hash(images))


@given(
    flips=st.lists(st.sets(st.integers(0, 255), max_size=DISTANCE + 4), min_size=2, max_size=12),
    seed=st.integers(0, 99),
)
def test_all_close_pairs_are_found_and_no_other(flips: list[set[int]], seed: int) -> None:
    base = np.random.default_rng(seed).integers(0, 2, 256, dtype=np.uint8)
    bits_NB = np.stack([base] * len(flips))
    for row, flipped in zip(bits_NB, flips, strict=True):
        row[list(flipped)] ^= 1
    hash_UB = np.unique(np.packbits(bits_NB, axis=1), axis=0)
    found = {tuple(sorted(pair)) for part in close_pairs(hash_UB) for pair in part.tolist()}
    bits_UB = np.unpackbits(hash_UB, axis=1)
    pairs = itertools.combinations(range(len(hash_UB)), 2)
    assert found == {(a, b) for a, b in pairs if (bits_UB[a] != bits_UB[b]).sum() <= DISTANCE}


def test_a_chain_is_one_group() -> None:
    bits_NB = np.zeros((4, 256), np.uint8)
    bits_NB[1, :DISTANCE] = 1
    bits_NB[2, : 2 * DISTANCE] = 1
    bits_NB[3, 100:200] = 1
    assert near_identical(np.packbits(bits_NB, axis=1)).tolist() == [0, 0, 0, 3]
    assert near_identical(np.empty((0, 32), np.uint8)).tolist() == []


def test_a_blurred_and_a_dark_image_come_first() -> None:
    images = faces(5)
    images[2, :, :, 0] = cv2.GaussianBlur(images[2, :, :, 0], (0, 0), 4)
    images[4] //= 8
    assert rank(sharpness(images[:4]))[2] == 0
    assert rank(brightness(images))[4] == 0
    flat = np.zeros((2, 16, 16, 3), np.uint8)
    flat[1] = 255
    assert sharpness(flat).tolist() == [0, 0]
    assert brightness(flat).tolist() == [0, 1]


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    grey = np.random.default_rng(1).integers(0, 255, (20, 20)).astype(np.float64)
    padded = np.pad(grey, 1, mode="reflect")
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * grey
    np.testing.assert_allclose(sharpness(grey.astype(np.uint8)[None, ..., None]), [laplacian.var()], rtol=1e-5)


def test_ranks_count_from_the_lowest() -> None:
    assert rank(np.array([3.0, 1.0, 2.0, 1.0])).tolist() == [3, 0, 2, 1]
