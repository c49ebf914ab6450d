"""ReSup: two networks; each weighs the samples of the other by the probability that their label is right.

    s_k = p_k,y / ||p_k||_2                                       similarity of the label and network k's prediction
    c_k = P(high component | s_k)                                 of a mixture of two Beta distributions of all s_k
    L   = mean [c_2 CE(z_1, y) + c_1 CE(z_2, y) + lam mean_c (p_1 - p_2)_c^2]
    L   = mean [CE(z_1, y) + CE(z_2, y)]                          in the first epoch

The mixtures are refitted at the end of each epoch. Zhang et al., "ReSup: Reliable Label Noise Suppression for Facial
Expression Recognition", TAC 2025, arXiv 2305.17895, and the authors' public code,
github.com/purpleleaves007/FERDenoise.

Legend: N samples of one worker, M of the training set, C classes, B bins of a table.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from nla.losses.functional import cross_entropy, require
from nla.methods.base import Context, Method, Minibatch, Outcome, SampleMemory
from nla.methods.beta_mixture import BINS, fit_beta_mixture, look_up
from nla.methods.second_network import second_network
from nla.models.classifier import Classifier

UNSEEN = -1.0
"""Similarity of a sample that no epoch has seen."""


def similarity(logits_NC: Tensor, target: Tensor) -> Tensor:
    """Cosine of p and the label, or the distribution, [N] in [0, 1], without gradient."""
    p_NC = logits_NC.detach().float().softmax(dim=1)
    y_NC = F.one_hot(target, p_NC.shape[1]) if target.ndim == 1 else target
    return F.cosine_similarity(p_NC, y_NC.float())


class ReSup(Method):
    """ReSup, arXiv 2305.17895: trains two networks, in over twice the time; the first one is evaluated and saved.

    Args:
        context: the run that the method is part of.
        lam: weight of the squared distance of both predictions, at least 0.

    Raises:
        ValueError: an option is out of its range.
        ConfigError: the network has no linear layer to start from other weights.
    """

    table_2B: Tensor

    def __init__(self, context: Context, *, lam: float = 5.0) -> None:
        super().__init__()
        require(lam >= 0, "lam", lam, "at least 0")
        self.lam = lam
        self.peer = second_network(context, "resup")
        self.similarity = SampleMemory(torch.full((len(context.label_N), 2), UNSEEN), context.group)
        self.register_buffer("table_2B", torch.ones(2, BINS))

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        logits = [net(batch.images_NHWC).float() for net in (network, self.peer)]
        own_N, peer_N = (cross_entropy(z_NC, batch.target) for z_NC in logits)
        if batch.progress == 0:  # the first epoch: there is no mixture
            return Outcome((own_N + peer_N).mean(), logits[0])
        pairs = zip(self.table_2B, logits, strict=True)
        by_own_N, by_peer_N = (look_up(table_B, similarity(z_NC, batch.target)) for table_B, z_NC in pairs)
        distance_N = (logits[0].softmax(dim=1) - logits[1].softmax(dim=1)).square().mean(dim=1)
        return Outcome((by_peer_N * own_N + by_own_N * peer_N + self.lam * distance_N).mean(), logits[0])

    def end_epoch(self, network: Classifier, batches: Iterable[Minibatch]) -> None:
        """Measures the similarities of all samples, and fits the mixtures to them."""
        network.eval()
        self.peer.eval()
        for batch in batches:
            found = [similarity(net(batch.images_NHWC), batch.target) for net in (network, self.peer)]
            self.similarity.write(batch.index_N, torch.stack(found, dim=1))
        seen_M2 = self.similarity.rows_M[self.similarity.rows_M[:, 0] != UNSEEN]
        self.table_2B.copy_(torch.stack([fit_beta_mixture(values_M).table() for values_M in seen_M2.T]))
