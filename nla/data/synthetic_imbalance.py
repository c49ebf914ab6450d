"""Which training rows are kept: for synthetic class imbalance, or for fewer rows of the same classes."""

from __future__ import annotations

import numpy as np

from nla.errors import DataError


def impose_imbalance(label_N: np.ndarray, num_classes: int, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Sorted indices of the rows to keep, so that the largest class is `factor` times the smallest.

    Class sizes follow n_c = n_0 * factor ** (-c / (C - 1)), with classes sorted by their current size (Cui et al., CVPR
    2019) and the largest n_0 for which every class has enough rows.

    Raises:
        DataError: the smallest class would have no row left.
    """
    size_C = np.bincount(label_N, minlength=num_classes)
    target_C = _long_tail(size_C, factor)
    kept = [rng.permutation(np.flatnonzero(label_N == c))[: target_C[c]] for c in range(num_classes)]
    return np.sort(np.concatenate(kept))


def keep_shares(label_N: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted indices of `rows` rows, in which the classes have the shares that they have in all.

    Class sizes are rounded by the largest remainder (Hamilton's method), so that they add up to `rows`.

    Raises:
        DataError: there are fewer rows, or a class would have none left.
    """
    if rows > len(label_N):
        raise DataError(
            f"data.train_rows: train has only {len(label_N):,} rows (got {rows:,}). Use {len(label_N)} or less."
        )
    size_C = np.bincount(label_N)
    exact_C = size_C * rows / len(label_N)
    kept_C = np.floor(exact_C).astype(int)
    kept_C[np.argsort(kept_C - exact_C, kind="stable")[: rows - kept_C.sum()]] += 1
    if (kept_C[size_C > 0] == 0).any():
        raise DataError(f"data.train_rows: a class would have no training image (got {rows:,}). Raise it.")
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(label_N == c))[:n] for c, n in enumerate(kept_C)]))


def largest_factor(size_C: np.ndarray) -> float:
    """The largest factor that keeps a row of the smallest class: min over c of size_c ** ((C - 1) / (C - 1 - c))."""
    size_C = np.sort(size_C)[::-1]
    last = len(size_C) - 1
    powers = [float(size_C[c]) ** (last / (last - c)) for c in range(last)]
    return min(powers, default=1.0) if size_C[-1] else 0.0


def _long_tail(size_C: np.ndarray, factor: float) -> np.ndarray:
    by_size = np.argsort(-size_C, kind="stable")
    decay_C = factor ** (-np.arange(len(size_C)) / max(len(size_C) - 1, 1))
    head = np.min(size_C[by_size] / decay_C)
    if factor > largest_factor(size_C):
        raise DataError(
            f"data.imbalance_factor: a class would have no training image (got {factor:g}). "
            f"Use {np.floor(largest_factor(size_C)):g} or less."
        )
    target_C = np.empty_like(size_C)
    target_C[by_size] = np.round(head * decay_C)
    return target_C
