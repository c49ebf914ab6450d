"""Validation split, and images shared between splits."""

from __future__ import annotations

import numpy as np

from nla.data.schema import SPLITS

TRAIN, VALID, TEST = range(len(SPLITS))


def stratified_split(label_N: np.ndarray, image_N: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Mask of the validation part, bool [N]: about `fraction` of the images of every class.

    Equal `image_N` mark identical images, which stay on one side, counted for the class of the first one, so that the
    split does not leak. A class of two or more images has at least one on either side.
    """
    _, first_M, picture_N = np.unique(image_N, return_index=True, return_inverse=True)
    label_M = label_N[first_M]
    is_valid_M = np.zeros(len(first_M), bool)
    for label in np.unique(label_M):
        pictures = rng.permutation(np.flatnonzero(label_M == label))
        size = round(fraction * len(pictures))
        is_valid_M[pictures[: min(max(size, 1), len(pictures) - 1)]] = True
    return is_valid_M[picture_N]


def leaks(split_N: np.ndarray, image_N: np.ndarray) -> dict[str, int]:
    """Number of rows of a later split whose image is in an earlier split too, such as {"test_in_train": 288}."""
    pairs = ((VALID, TRAIN), (TEST, TRAIN), (TEST, VALID))
    return {
        f"{SPLITS[later]}_in_{SPLITS[earlier]}": int(
            np.isin(image_N[split_N == later], image_N[split_N == earlier]).sum()
        )
        for later, earlier in pairs
    }


def leaking_rows(split_N: np.ndarray, image_N: np.ndarray) -> np.ndarray:
    """Mask of train rows whose image is in valid or test, and valid rows whose image is in test; bool [N]."""
    in_test_N = np.isin(image_N, image_N[split_N == TEST])
    in_valid_N = np.isin(image_N, image_N[split_N == VALID])
    leaking_N: np.ndarray = ((split_N == TRAIN) & (in_valid_N | in_test_N)) | ((split_N == VALID) & in_test_N)
    return leaking_N
