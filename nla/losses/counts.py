"""How many samples each class has, fit to divide by and to take the logarithm of, and that logarithm.

Legend: C classes.
"""

from __future__ import annotations

from torch import Tensor


def occupied(class_counts: Tensor) -> Tensor:
    """The counts [C] as float32; a class without samples counts as the rarest that has some.

    Such a class has no weight, margin or prior of its own; counted as 0 or 1 it would take over those of the others.
    Raises ValueError where no class has a sample.
    """
    some = class_counts[class_counts > 0]
    if not len(some):
        raise ValueError("no class has a sample")
    return class_counts.clamp(min=int(some.min())).float()


def log_prior(class_counts: Tensor) -> Tensor:
    """log(n / sum n), [C], of the occupied counts."""
    n_C = occupied(class_counts)
    return (n_C / n_C.sum()).log()
