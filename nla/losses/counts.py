"""Class counts that are safe to divide by and take the logarithm of, and log priors from them.

Legend: C classes.
"""

from __future__ import annotations

from torch import Tensor


def occupied(class_counts: Tensor) -> Tensor:
    """The counts [C] as float32; a class without samples gets the count of the rarest class that has some.

    Such a class has no weight, margin or prior of its own; with a count of 0 or 1 it would dominate the others.

    Raises:
        ValueError: no class has a sample.
    """
    some = class_counts[class_counts > 0]
    if not len(some):
        raise ValueError("no class has a sample")
    return class_counts.clamp(min=int(some.min())).float()


def log_prior(class_counts: Tensor) -> Tensor:
    """log(n / sum n) of the occupied counts, [C]."""
    n_C = occupied(class_counts)
    return (n_C / n_C.sum()).log()
