"""Folds of the training rows: stratified by label, and no group of near-identical images in two of them.

A copy of a held-out image in training would let the model repeat the label of the copy, wrong as it may be.

Legend: N rows, K folds, C classes.
"""

from __future__ import annotations

import numpy as np

from nla.errors import ConfigError


def assign_folds(label_N: np.ndarray, group_N: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of each row, int64 [N] in [0, folds).

    Groups are placed one after the other, the largest first and equal ones in random order, each in the fold that has
    the fewest rows of its labels so far, and of those in the smallest. So if the labels of each group agree, any two
    folds differ in the number of rows of a class by at most the size of the largest group of that class.

    Args:
        label_N: label of each row, from 0.
        group_N: rows of one group have the same number.
        folds: number of folds.
        seed: seed of the order.

    Raises:
        ConfigError: there are fewer groups than folds.
    """
    _, index_N, size_G = np.unique(group_N, return_inverse=True, return_counts=True)
    if len(size_G) < folds:
        raise ConfigError(f"audit.folds: {folds} folds of {len(size_G)} distinct training images. Lower it.")
    members = np.split(np.argsort(index_N, kind="stable"), np.cumsum(size_G)[:-1])
    shuffled = np.random.default_rng(seed).permutation(len(size_G))
    fold_N = np.empty(len(label_N), np.int64)
    rows_KC = np.zeros((folds, int(label_N.max()) + 1), np.int64)
    for group in shuffled[np.argsort(-size_G[shuffled], kind="stable")]:
        rows = members[group]
        label_C, count_C = np.unique(label_N[rows], return_counts=True)
        fold = np.lexsort((rows_KC.sum(axis=1), rows_KC[:, label_C] @ count_C))[0]
        fold_N[rows] = fold
        rows_KC[fold, label_C] += count_C
    return fold_N
