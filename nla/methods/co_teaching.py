"""Co-teaching: two networks, each learning from the samples that have a small loss in the other.

    R = 1 - tau min(T / T_k, 1)            share of the batch that is selected in epoch T
    L = mean of l_f where l_g is among the R smallest + mean of l_g where l_f is

Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy Labels", NeurIPS 2018,
arXiv 1804.06872, Algorithm 1.

Legend: N samples of one worker, G of the global batch, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nla.losses.functional import cross_entropy, rank_in_batch, require
from nla.methods.base import Context, Method, Minibatch, Outcome
from nla.methods.second_network import second_network
from nla.models.classifier import Classifier

ROUNDING = 1e-9  # (1 - .7) * 10 is slightly more than 3


def selected_count(size: int, progress: float, forget_rate: float, ramp: float) -> int:
    """R * size, rounded up; `progress` and `ramp` are fractions of the run."""
    share = 1 - forget_rate * min(progress / ramp, 1)
    return math.ceil(size * share - ROUNDING)


def label_divergence(loss_N: Tensor, target: Tensor) -> Tensor:
    """Selection criterion, [N]: KL(q | p) = CE(q, p) - H(q), which is the cross-entropy itself for labels.

    By CE alone, samples on which annotators disagree would look mislabelled.
    """
    return loss_N if target.ndim == 1 else loss_N - torch.special.entr(target.float()).sum(dim=1)


def mean_of_selected(loss_N: Tensor, rank_N: Tensor, count: int, replicas: int = 1) -> Tensor:
    """Mean loss of the samples of the global batch with a rank below `count`; the workers' scalars average to it."""
    return torch.where(rank_N < count, loss_N, 0.0).sum() * replicas / count


class CoTeaching(Method):
    """Co-teaching, arXiv 1804.06872: trains two networks, in twice the time; the first one is evaluated and saved.

    The paper has an optimiser for each network; here one optimiser minimises the sum of their losses, which is
    equivalent except for gradient clipping. Small losses are selected in the global batch, whatever the number of
    workers.

    Args:
        context: the run that the method is part of.
        forget_rate: tau, the final share of a batch that is left out, in [0, 1). The paper sets it to the rate of wrong
            labels, which is seldom known; .2 is the lowest rate in its experiments.
        ramp: T_k / T_max, the share of the run over which the left-out share grows from 0; in (0, 1].

    Raises:
        ValueError: an option is out of its range.
        ConfigError: the network has no linear layer to start from other weights.
    """

    def __init__(self, context: Context, *, forget_rate: float = 0.2, ramp: float = 0.05) -> None:
        super().__init__()
        require(0 <= forget_rate < 1, "forget_rate", forget_rate, "in [0, 1)")
        require(0 < ramp <= 1, "ramp", ramp, "in (0, 1]")
        self.forget_rate, self.ramp = forget_rate, ramp
        self.group = context.group
        self.peer = second_network(context, "co_teaching")

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        logits_NC = network(batch.images_NHWC)
        own_N = cross_entropy(logits_NC, batch.target)
        peer_N = cross_entropy(self.peer(batch.images_NHWC), batch.target)
        loss = self._selected_by(peer_N, own_N, batch) + self._selected_by(own_N, peer_N, batch)
        return Outcome(loss, logits_NC)

    def _selected_by(self, teacher_N: Tensor, pupil_N: Tensor, batch: Minibatch) -> Tensor:
        """Returns the pupil's mean loss over the samples that have the smallest losses for the teacher."""
        criterion_N, index_G = label_divergence(teacher_N.detach(), batch.target), self.group.gather(batch.index_N)
        rank_N = rank_in_batch(criterion_N, batch.index_N, self.group.gather(criterion_N), index_G)
        count = selected_count(len(index_G), batch.progress, self.forget_rate, self.ramp)
        return mean_of_selected(pupil_N, rank_N, count, self.group.size)
