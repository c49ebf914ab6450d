"""Identical and near-identical images: a difference hash of 256 bits, and the groups of images whose hashes are close.

    hash bit (y, x) = grey(y, x + 1) > grey(y, x)      of the image shrunk to 16 rows of 17 pixels

The difference hash (Krawetz, "Kind of Like That", hackerfactor.com, 2013, there with 64 bits) survives another size,
file format, brightness or contrast. Aligned faces resemble each other far more than photographs of anything: 64 bits do
not tell them apart.

Legend: N images; U distinct hashes; B bytes of a hash.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

SIDE = 16
"""Rows of the hash, and differences in each."""
DISTANCE = 12
"""Most bits of 256 in which near-identical images differ: as a JPEG copy does, but rarely another face."""
BANDS = DISTANCE + 1
"""Parts of a hash, of which at least one is identical in two hashes that differ in at most DISTANCE bits."""
PAIRS = 1 << 22
"""Pairs of hashes that are compared at a time."""


def difference_hash(images_NHWC: np.ndarray) -> np.ndarray:
    """The packed bits of each image, uint8 [N, 32], from uint8 [N, H, W, C]."""
    hash_NB = np.empty((len(images_NHWC), SIDE * SIDE // 8), np.uint8)
    for i, pixels in enumerate(images_NHWC):
        grey = pixels.astype(np.float32).mean(axis=2)
        small = cv2.resize(grey, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
        hash_NB[i] = np.packbits(small[:, 1:] > small[:, :-1])
    return hash_NB


def near_identical(hash_NB: np.ndarray) -> np.ndarray:
    """Group of each image, int64 [N]: the position of its first member. An image without duplicates is alone in its.

    Two images are in a group if a chain of images leads from one to the other, each of at most DISTANCE bits.
    """
    unique_UB, of_N = np.unique(hash_NB, axis=0, return_inverse=True)
    pairs = [np.empty((0, 2), np.int64), *close_pairs(unique_UB)]
    left, right = np.concatenate(pairs).T
    links = coo_matrix((np.ones(len(left), bool), (left, right)), shape=(len(unique_UB),) * 2)
    _, group_U = connected_components(links, directed=False)
    group_N = group_U[of_N.ravel()]
    _, first, inverse_N = np.unique(group_N, return_index=True, return_inverse=True)
    return np.asarray(first[inverse_N], np.int64)


def close_pairs(hash_UB: np.ndarray) -> Iterator[np.ndarray]:
    """Yields arrays [P, 2] of positions of distinct hashes that differ in at most DISTANCE bits; some pairs repeat.

    Only hashes that share a band are compared, which finds all pairs.
    """
    bits = np.unpackbits(hash_UB, axis=1)
    for band in np.array_split(np.arange(bits.shape[1]), BANDS):
        _, bucket_U = np.unique(np.packbits(bits[:, band], axis=1), axis=0, return_inverse=True)
        order = np.argsort(bucket_U.ravel(), kind="stable")
        edges = np.flatnonzero(np.diff(bucket_U.ravel()[order])) + 1
        for members in np.split(order, edges):
            yield from _close_within(hash_UB, members)


def _close_within(hash_UB: np.ndarray, members: np.ndarray) -> Iterator[np.ndarray]:
    """The close pairs among `members`, compared in parts of at most some PAIRS."""
    size = len(members)
    if size < 2:
        return
    rows = max(1, PAIRS // size)
    for start in range(0, size, rows):
        part = members[start : start + rows]
        distance = np.bitwise_count(hash_UB[part, None] ^ hash_UB[None, members]).sum(axis=2, dtype=np.uint16)
        left, right = np.nonzero(distance <= DISTANCE)
        after = left + start < right
        yield np.stack([part[left[after]], members[right[after]]], axis=1)
