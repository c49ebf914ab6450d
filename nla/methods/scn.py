"""Self-Cure Network (SCN): learns an importance of each sample, and relabels unimportant ones.

    L_WCE = mean CE(softmax(alpha z), y)                                          alpha in (0, 1)
    L_RR  = max(0, delta_1 - (mean of the high alphas - mean of the low ones))    high: the share beta of the batch
    L     = gamma L_RR + (1 - gamma) L_WCE
    y    <- argmax p where max p - p_y > delta_2, p = softmax(alpha z)            of the low ones

Wang et al., "Suppressing Uncertainties for Large-Scale Facial Expression Recognition", CVPR 2020, arXiv 2002.10392,
section 3.

Legend: N samples of one worker, G of the global batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nla.errors import TrainingError
from nla.losses.functional import cross_entropy, given_label, rank_in_batch, require
from nla.methods.base import Context, Method, Minibatch, Outcome, SampleMemory
from nla.models.classifier import Classifier

AS_GIVEN = -1
"""Stands for the new label of a sample that keeps its given one."""


def weighted_cross_entropy(logits_NC: Tensor, alpha_N: Tensor, target: Tensor) -> Tensor:
    """L_WCE, a float32 scalar: cross-entropy of alpha z."""
    return cross_entropy(alpha_N[:, None] * logits_NC.float(), target).mean()


def high_samples(size: int, beta: float) -> int:
    """Number of the `size` samples in the group of high importance; each group has at least one."""
    return max(min(round(beta * size), size - 1), 1)


def rank_regularisation(
    alpha_N: Tensor,
    high_N: Tensor,
    counts: tuple[int, int],
    margin: float,
    gather: Callable[[Tensor], Tensor] = lambda rows: rows,
    replicas: int = 1,
) -> Tensor:
    """L_RR of the global batch; each worker returns a scalar, and their mean is L_RR.

    Args:
        alpha_N: importances of this worker's samples.
        high_N: mask of those of high importance.
        counts: numbers of samples of high and of low importance in the global batch.
        margin: delta_1.
        gather: collects the rows of all workers, given those of this one.
        replicas: number of workers.
    """
    high, low = counts
    part = torch.where(high_N, -alpha_N / high, alpha_N / low).sum()  # of mean low - mean high
    violated = margin + gather(part.detach()[None]).sum() > 0
    return torch.where(violated, margin + replicas * part, 0.0)


def relabel(logits_NC: Tensor, alpha_N: Tensor, given_N: Tensor, margin: float) -> Tensor:
    """New labels, int64 [N]; AS_GIVEN where max p - p_given is at most `margin` (delta_2)."""
    p_NC = (alpha_N[:, None] * logits_NC.float()).detach().softmax(dim=1)
    highest_N, label_N = p_NC.max(dim=1)
    given_p_N = p_NC.gather(1, given_N[:, None]).squeeze(1)
    return torch.where(highest_N - given_p_N > margin, label_N, AS_GIVEN)


def corrected(target: Tensor, label_N: Tensor) -> Tensor:
    """`target` with the new labels inserted: class indices, or one-hot rows among distributions."""
    new_N = label_N != AS_GIVEN
    if target.ndim == 1:
        return torch.where(new_N, label_N, target)
    one_hot_NC = F.one_hot(label_N.clamp(min=0), target.shape[1]).to(target)
    return torch.where(new_N[:, None], one_hot_NC, target)


class SelfCure(Method):
    """Self-Cure Network, arXiv 2002.10392; its groups are formed in the global batch, whatever the number of workers.

    The importance alpha is used in training only: softmax(alpha z) of the paper and softmax(z), which is evaluated,
    predict the same class, but the latter is more confident. The authors' public code differs from the paper: it adds
    the two terms without gamma, and also relabels important samples. The paper's equations were not accessible when
    this was written; the sources are its abstract and introduction, which name the groups, and the code.

    Args:
        context: the run that the method is part of.
        beta: share of a batch that is in the group of high importance, in (0, 1).
        rank_margin: delta_1, minimum difference between the groups' mean importance, in [0, 1). The paper's .15 is for
            batches of 1024; the authors' code advises .07 for 64.
        gamma: share of the rank regularisation in the loss, in [0, 1].
        relabel_margin: delta_2, in [0, 1].
        relabel_from: share of the run before the first relabelling: epoch 10 of 40 (of 70 in the code); 1 is never.

    Raises:
        ValueError: an option is out of its range.
    """

    needs_feature_maps = True

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
        require(0 < beta < 1, "beta", beta, "in (0, 1)")
        require(0 <= rank_margin < 1, "rank_margin", rank_margin, "in [0, 1)")
        for name, value in (("gamma", gamma), ("relabel_margin", relabel_margin), ("relabel_from", relabel_from)):
            require(0 <= value <= 1, name, value, "in [0, 1]")
        self.beta, self.rank_margin, self.gamma = beta, rank_margin, gamma
        self.relabel_margin, self.relabel_from = relabel_margin, relabel_from
        self.group = context.group
        self.importance = nn.Linear(context.build().feature_backbone.fc.in_features, 1)
        self.new_label = SampleMemory(torch.full_like(context.label_N, AS_GIVEN), context.group)

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        if len(batch.index_N) * self.group.size < 2:
            raise TrainingError("train.batch_size: scn compares two groups of each batch (got 1). Use at least 2.")
        features_ND = network.maps(batch.images_NHWC).mean(dim=(2, 3))
        logits_NC = network.feature_backbone.classify(features_ND)
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
        return rank_in_batch(alpha_N, index_N, self.group.gather(alpha_N), index_G) >= low, (high, low)

    def _remember(self, label_N: Tensor, index_N: Tensor) -> None:
        """Stores the new labels for the following epochs; a sample without a new label keeps its current one."""
        label_N = torch.where(label_N == AS_GIVEN, self.new_label.read(index_N), label_N)
        self.new_label.write(index_N, label_N)
