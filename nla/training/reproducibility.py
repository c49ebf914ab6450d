"""Reproducible random numbers and arithmetic, confined to the training run that needs them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

METHOD = 13
"""Purpose of the stream below, next to ORDER and AUGMENT of nla.data.loader."""


def epoch_seed(seed: int, epoch: int, rank: int) -> int:
    """Seed of PyTorch's generator in an epoch, from which dropout and methods draw; the same on every platform."""
    return int(np.random.SeedSequence((seed, METHOD, epoch, rank)).generate_state(1, np.uint64)[0])


@contextlib.contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Computes deterministically on a CPU; on exit, also after an error, restores PyTorch's settings and generators.

    On a GPU the settings stay as they are: cuBLAS would need an environment variable, and other kernels are slower.
    """
    torch_deterministic = torch.utils.deterministic
    enabled, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fill = torch_deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            if device.type == "cpu":
                torch.use_deterministic_algorithms(True)
                # Filling each new tensor takes a twelfth of a step, and the loop reads only what it has written.
                torch_deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            yield
        finally:
            torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
            torch_deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
