"""SCN: weights samples by a learnt importance, and relabels unimportant ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nla.errors import TrainingError
from nla.losses.scn import (
    AS_GIVEN,
    corrected,
    high_samples,
    rank_regularisation,
    relabel,
    weighted_cross_entropy,
)
from nla.losses.selection import places
from nla.losses.targets import given_label
from nla.methods.base import Context, Method, Minibatch, Outcome
from nla.methods.memory import SampleMemory
from nla.models.classifier import Classifier


class SelfCure(Method):
    """Self-Cure Network, arXiv 2002.10392; its groups are formed in the global batch, whatever the number of workers.

    The importance alpha is used in training only: softmax(alpha z) of the paper and softmax(z), which is kept, predict
    the same class, but the latter is more confident. The authors' public code differs from the paper: it adds the two
    terms without gamma, and also relabels important samples. The paper's equations were not accessible when this was
    written; the sources are its abstract and introduction, which name the groups, and the code.

    Args:
        context: the training that the method is used in.
        beta: share of a batch that is in the group of high importance, in (0, 1).
        rank_margin: delta_1, minimum difference between the groups' mean importance, in [0, 1). The paper's .15 is for
            batches of 1024; the authors' code advises .07 for 64.
        gamma: share of the rank regularisation in the loss, in [0, 1].
        relabel_margin: delta_2, in [0, 1].
        relabel_from: share of the training before the first relabelling: epoch 10 of 40 (of 70 in the code). 1: never.
    """

    looks_inside = True

    def __init__(
        self,
        context: Context,
        *,
        beta: float = 0.7,
        rank_margin: float = 0.15,
        gamma: float = 0.5,
        relabel_margin: float = 0.2,
        relabel_from: float = 0.25,
    ) -> None:
        super().__init__()
        if not (0 < beta < 1 and 0 <= rank_margin < 1):
            raise ValueError(f"scn needs beta in (0, 1) and rank_margin in [0, 1), not {beta} and {rank_margin}")
        for name, value in (("gamma", gamma), ("relabel_margin", relabel_margin), ("relabel_from", relabel_from)):
            if not 0 <= value <= 1:
                raise ValueError(f"scn needs {name} in [0, 1], not {value}")
        self.beta, self.rank_margin, self.gamma = beta, rank_margin, gamma
        self.relabel_margin, self.relabel_from = relabel_margin, relabel_from
        self.group = context.group
        self.importance = nn.Linear(context.build().resnet.fc.in_features, 1)
        self.new_label = SampleMemory(torch.full_like(context.label_N, AS_GIVEN), context.group)

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        if len(batch.index_N) * self.group.size < 2:
            raise TrainingError("scn compares two groups of a batch: raise train.batch_size to two at least")
        features_ND = network.maps(batch.images_NHWC).mean(dim=(2, 3))
        logits_NC = network.resnet.classify(features_ND)
        alpha_N = self.importance(features_ND).squeeze(1).float().sigmoid()
        target = corrected(batch.target, self.new_label.read(batch.index_N))
        high_N, counts = self._groups(alpha_N.detach(), batch.index_N)
        ranks = rank_regularisation(alpha_N, high_N, counts, self.rank_margin, self.group.gather, self.group.size)
        loss = self.gamma * ranks + (1 - self.gamma) * weighted_cross_entropy(logits_NC, alpha_N, target)
        if batch.progress >= self.relabel_from:
            label_N = relabel(logits_NC, alpha_N, given_label(target), self.relabel_margin)
            self._remember(label_N.masked_fill(high_N, AS_GIVEN), batch.index_N)
        return Outcome(loss, logits_NC)

    def _groups(self, alpha_N: Tensor, index_N: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Returns the mask of this worker's samples of high importance, and both groups' sizes in the global batch."""
        index_G = self.group.gather(index_N)
        high = high_samples(len(index_G), self.beta)
        low = len(index_G) - high
        return places(alpha_N, index_N, self.group.gather(alpha_N), index_G) >= low, (high, low)

    def _remember(self, label_N: Tensor, index_N: Tensor) -> None:
        """Stores the new labels for the following epochs; a sample without a new label keeps its current one."""
        label_N = torch.where(label_N == AS_GIVEN, self.new_label.read(index_N), label_N)
        self.new_label.write(index_N, label_N)
