"""Label-distribution-aware margins with deferred re-weighting (LDAM-DRW): the rarer the class, the larger its margin.

    L_y = CE(softmax(z - m_y e_y), y)                    m_c ~ n_c^(-1/4), n_c: training samples of the class
    L   = sum w_y L_y / sum w_y over the batch           w = 1, and late in the run class-balanced weights

Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019, arXiv 1906.07413,
equations 12 and 13, Algorithm 1.

Legend: N samples, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nla.losses.class_balanced import class_weights
from nla.losses.functional import at_target, positive_counts, require
from nla.methods.base import Context, Method, Minibatch, Outcome
from nla.models.classifier import Classifier
from nla.models.resnet import COSINE_SCALE


def margins(class_counts: Tensor, largest: float) -> Tensor:
    """Margins m_c, [C] float32: `largest` for the rarest class, and for classes without samples.

    Raises:
        ValueError: no class has a sample.
    """
    m_C = positive_counts(class_counts) ** -0.25
    return largest * m_C / m_C.max()


def margin_losses(logits_NC: Tensor, margin_C: Tensor) -> Tensor:
    """L_y of every sample for every label y, [N, C] float32; margins are on the scale of the logits."""
    lowered_NCC = logits_NC.float()[:, None, :] - torch.diag(margin_C)  # row y: z minus y's margin at y
    return -lowered_NCC.log_softmax(dim=2).diagonal(dim1=1, dim2=2)


class LabelDistributionAwareMargin(Method):
    """LDAM-DRW, arXiv 1906.07413; the defaults are the authors' for long-tailed CIFAR-10.

    It is as published with `model.head: cosine`, where logits are COSINE_SCALE * cos and margins apply to the cosine;
    other logits get the same margins, COSINE_SCALE * m_c. For a distribution, w_y L_y and w_y are means over labels.

    Algorithm 1 weighs a sample by 1 / n_y and divides the learning rate by the sum of the batch's weights. The authors'
    code divides the loss by it, as here, and has the weights of the class-balanced loss. The batch is the global one,
    whatever the number of workers. Runs of fewer than five epochs never reach a progress of .8.

    Args:
        context: the run that the method is part of.
        margin: m_c of the rarest class, at least 0.
        beta: beta of the class-balanced weights, in [0, 1).
        defer: progress from which the weights are used, in [0, 1]; .8 is epoch 160 of 200, 1 is never.

    Raises:
        ValueError: an option is out of its range, or no class has a sample.
    """

    frequency_options = ("margin", "beta")
    margin_C: Tensor
    weight_C: Tensor

    def __init__(self, context: Context, *, margin: float = 0.5, beta: float = 0.9999, defer: float = 0.8) -> None:
        super().__init__()
        require(margin >= 0, "margin", margin, "at least 0")
        require(0 <= defer <= 1, "defer", defer, "in [0, 1]")
        self.group = context.group
        self.defer, counts_C = defer, context.class_counts
        self.register_buffer("margin_C", COSINE_SCALE * margins(counts_C, margin), persistent=False)
        self.register_buffer("weight_C", class_weights(counts_C, beta), persistent=False)

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        logits_NC = network(batch.images_NHWC)
        loss_NC = margin_losses(logits_NC, self.margin_C)
        if batch.progress < self.defer:
            return Outcome(at_target(loss_NC, batch.target).mean(), logits_NC)
        loss_N = at_target(self.weight_C * loss_NC, batch.target)
        weight_N = at_target(self.weight_C.expand_as(loss_NC), batch.target)
        # DDP averages over the workers: the mean weight of the global batch makes it the quotient of its sums.
        return Outcome(loss_N.mean() / self.group.gather(weight_N).mean(), logits_NC)
