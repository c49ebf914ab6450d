"""Co-teaching: two networks, each learning from the samples on which the other has a small loss.

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

ROUNDING = 1e-9  # (1 - .7) * 10 is a little more than 3


def kept_samples(size: int, progress: float, forget_rate: float, ramp: float) -> int:
    """The fewest samples that are at least the share R of `size`; `progress` and `ramp` are shares of the training."""
    share = 1 - forget_rate * min(progress / ramp, 1)
    return math.ceil(size * share - ROUNDING)


def surprise(loss_N: Tensor, target: Tensor) -> Tensor:
    """By which samples are ranked, [N]: the cross-entropy beyond what a distribution as target costs in any case.

    KL(q | p) = CE(q, p) - H(q); of labels H is 0. Ranked by CE alone, what annotators doubt would be taken for wrong.
    """
    return loss_N if target.ndim == 1 else loss_N - torch.special.entr(target.float()).sum(dim=1)


def mean_of_kept(loss_N: Tensor, place_N: Tensor, kept: int, replicas: int = 1) -> Tensor:
    """Mean of the losses of the whole batch whose place is below `kept`; a scalar whose mean over workers it is."""
    return torch.where(place_N < kept, loss_N, 0.0).sum() * replicas / kept
