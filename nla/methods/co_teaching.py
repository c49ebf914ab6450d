"""Co-teaching: two networks, each learning from the samples with a small loss in the other.

    R = 1 - tau min(T / T_k, 1)            share of the batch that is kept in epoch T
    L = mean of l_f where l_g is among the R smallest + mean of l_g where l_f is

Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy Labels", NeurIPS 2018,
arXiv 1804.06872, Algorithm 1.

Legend: N samples of this worker.

Co-teaching: two networks that select samples for each other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nla.errors import ConfigError
from nla.losses.functional import cross_entropy, places
from nla.methods.base import Context, Method, Minibatch, Outcome
from nla.models.classifier import Classifier

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


class CoTeaching(Method):
    """Co-teaching, arXiv 1804.06872: trains two networks, in twice the time, and keeps the first.

    The paper has an optimiser for each network; here one optimiser minimises the sum of their losses, which is
    equivalent except for gradient clipping. Small losses are selected in the global batch, whatever the number of
    workers.

    Args:
        context: the training that the method is used in.
        forget_rate: tau, the final share of a batch that is left out, in [0, 1). The paper sets it to the rate of wrong
            labels, which is seldom known; .2 is the lowest rate in its experiments.
        ramp: T_k / T_max, the share of the training over which the left-out share grows from 0; in (0, 1].
    """

    def __init__(self, context: Context, *, forget_rate: float = 0.2, ramp: float = 0.05) -> None:
        super().__init__()
        if not (0 <= forget_rate < 1 and 0 < ramp <= 1):
            raise ValueError(
                f"co_teaching needs forget_rate in [0, 1) and ramp in (0, 1], not {forget_rate} and {ramp}"
            )
        self.forget_rate, self.ramp = forget_rate, ramp
        self.group = context.group
        self.peer = context.build()
        _restart_classifier(self.peer)

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        logits_NC = network(batch.images_NHWC)
        own_N = cross_entropy(logits_NC, batch.target)
        peer_N = cross_entropy(self.peer(batch.images_NHWC), batch.target)
        loss = self._taught(own_N, peer_N, batch) + self._taught(peer_N, own_N, batch)
        return Outcome(loss, logits_NC)

    def _taught(self, pupil_N: Tensor, teacher_N: Tensor, batch: Minibatch) -> Tensor:
        """Returns the pupil's mean loss over the samples that have the smallest losses for the teacher."""
        teacher_N, index_G = surprise(teacher_N.detach(), batch.target), self.group.gather(batch.index_N)
        place_N = places(teacher_N, batch.index_N, self.group.gather(teacher_N), index_G)
        kept = kept_samples(len(index_G), batch.progress, self.forget_rate, self.ramp)
        return mean_of_kept(pupil_N, place_N, kept, self.group.size)


def _restart_classifier(network: Classifier) -> None:
    """Reinitialises the last layer: with the same pretrained weights, the two networks would never differ."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ConfigError("model.name: co_teaching starts a last linear layer anew, which this network has not")
    layers[-1].reset_parameters()
