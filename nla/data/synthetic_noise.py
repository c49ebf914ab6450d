"""Synthetic label noise, as functions of label arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nla.config.data import NoiseKind
from nla.errors import DataError


def flip_labels(
    label_N: np.ndarray,
    num_classes: int,
    kind: NoiseKind,
    rate: float,
    exact: bool,
    mapping: Mapping[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Labels [N] with a fraction `rate` replaced by those of other classes.

    With the same seed a higher rate flips the same rows to the same labels, and more.

    Args:
        label_N: clean labels.
        num_classes: number of classes.
        kind: symmetric: uniform over the other classes. pair: class c becomes c + 1, the last one 0. asymmetric: class
            c becomes mapping[c].
        rate: fraction to flip; for asymmetric, of the rows whose class is in the map, while others keep their label.
        exact: flip round(rate * n) rows; otherwise each row with probability `rate`.
        mapping: class -> class, for asymmetric noise.
        rng: random generator.

    Raises:
        DataError: fewer than two classes, or a mapping of a class to itself or to one outside the classes.
    """
    if num_classes < 2:
        raise DataError(f"data.noise.rate: label noise needs two classes or more (got {num_classes}). Set it to 0.")
    wrong_N = wrong_labels(label_N, num_classes, kind, mapping, rng)
    eligible = np.flatnonzero(wrong_N != label_N)
    n = len(eligible)
    chosen = eligible[rng.permutation(n)[: round(rate * n)]] if exact else eligible[rng.random(n) < rate]
    noisy_N: np.ndarray = label_N.copy()
    noisy_N[chosen] = wrong_N[chosen]
    return noisy_N


def swap_shares(share_NC: np.ndarray, clean_N: np.ndarray, given_N: np.ndarray) -> np.ndarray:
    """Copy of distributions [N, C] in which the shares of the clean and of the given class have changed places.

    The given class takes over the lead of the clean one, and the sorted shares stay the same, so that neither the
    highest share nor the entropy of a target says whether its label was flipped.
    """
    swapped_NC: np.ndarray = share_NC.copy()
    flipped = np.flatnonzero(clean_N != given_N)
    clean, given = clean_N[flipped], given_N[flipped]
    swapped_NC[flipped, clean], swapped_NC[flipped, given] = share_NC[flipped, given], share_NC[flipped, clean]
    return swapped_NC


def transition_matrix(clean_N: np.ndarray, noisy_N: np.ndarray, num_classes: int) -> np.ndarray:
    """Empirical P(noisy label | clean label), [C, C]; rows sum to 1. A class without rows counts as never flipped."""
    count_CC = np.zeros((num_classes, num_classes))
    np.add.at(count_CC, (clean_N.astype(int), noisy_N.astype(int)), 1)
    empty_C = count_CC.sum(axis=1) == 0
    count_CC[empty_C, empty_C] = 1
    share_CC: np.ndarray = count_CC / count_CC.sum(axis=1, keepdims=True)
    return share_CC


def wrong_labels(
    label_N: np.ndarray, num_classes: int, kind: NoiseKind, mapping: Mapping[int, int], rng: np.random.Generator
) -> np.ndarray:
    """The label that each row would be flipped to; the clean one if the row cannot be flipped."""
    if kind == "symmetric":
        return ((label_N + rng.integers(1, num_classes, len(label_N))) % num_classes).astype(label_N.dtype)
    if kind == "pair":
        return ((label_N.astype(int) + 1) % num_classes).astype(label_N.dtype)
    becomes_C: np.ndarray = np.arange(num_classes, dtype=label_N.dtype)
    for clean, noisy in mapping.items():
        if clean == noisy or not (0 <= clean < num_classes and 0 <= noisy < num_classes):
            raise DataError(f"data.noise.mapping: class {clean} cannot become class {noisy}. Map it to another class.")
        becomes_C[clean] = noisy
    wrong_N: np.ndarray = becomes_C[label_N]
    return wrong_N
