"""Co-teaching: two networks, each learning from the samples with a small loss in the other.

    R = 1 - tau min(T / T_k, 1)            share of the batch that is kept in epoch T
    L = mean of l_f where l_g is among the R smallest + mean of l_g where l_f is

Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy Labels", NeurIPS 2018,
arXiv 1804.06872, Algorithm 1.

Legend: N samples of this worker.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROUNDING = 1e-9  # (1 - .7) * 10 is slightly more than 3


def kept_samples(size: int, progress: float, forget_rate: float, ramp: float) -> int:
    """R * size, rounded up; `progress` and `ramp` are fractions of the training."""
    share = 1 - forget_rate * min(progress / ramp, 1)
    return math.ceil(size * share - ROUNDING)


def surprise(loss_N: Tensor, target: Tensor) -> Tensor:
    """Ranking criterion of samples, [N]: cross-entropy minus the entropy of the target.

    KL(q | p) = CE(q, p) - H(q), with H = 0 for labels. By CE alone, samples that annotators doubt would look wrong.
    """
    return loss_N if target.ndim == 1 else loss_N - torch.special.entr(target.float()).sum(dim=1)


def mean_of_kept(loss_N: Tensor, place_N: Tensor, kept: int, replicas: int = 1) -> Tensor:
    """Mean loss of the samples of the global batch with a rank below `kept`; the workers' scalars average to it."""
    return torch.where(place_N < kept, loss_N, 0.0).sum() * replicas / kept
