"""mixup: images and labels of two samples, mixed with one ratio.

    x = lam x_i + (1 - lam) x_j                          L = mean [lam CE(z, y_i) + (1 - lam) CE(z, y_j)]

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv 1710.09412.

Legend: N samples, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Beta

from nla.losses.functional import cross_entropy, require
from nla.methods.base import Context, Method, Minibatch, Outcome
from nla.models.classifier import Classifier

LOWEST = 0.01  # below this, draws from Beta(alpha, alpha) underflow, and become .5 instead of 0 or 1


def mix(images: Tensor, partner_N: Tensor, lam: float) -> Tensor:
    """Mixes each of N images with its partner's, [N, ...] float32; `partner_N` are positions in the batch."""
    return lam * images.float() + (1 - lam) * images[partner_N].float()


def mixed_cross_entropy(logits_NC: Tensor, target: Tensor, partner_N: Tensor, lam: float) -> Tensor:
    """Cross-entropy L against the mixed labels, a float32 scalar; targets are indices or distributions."""
    own, other = (cross_entropy(logits_NC, given).mean() for given in (target, target[partner_N]))
    return lam * own + (1 - lam) * other


class Mixup(Method):
    """mixup, arXiv 1710.09412: one lam ~ Beta(alpha, alpha) per batch, and partners from the same worker's batch.

    Pixels are mixed before they are normalised, which gives the same result: normalising is affine, and the shares sum
    to 1.

    lam and 1 - lam give the same mixes, with the inverse permutation, so the larger of the two is used: each sample is
    then the larger part of the mix at its index. The recorded positions (p_GT, p_NN) are those of the mix, by the label
    of that sample: even with a perfect fit p_GT is only lam, so they say less about the label than with other methods.

    Args:
        context: the run that the method is part of.
        alpha: at least .01; 1 as for CIFAR-10, while the paper uses .2 for ImageNet.

    Raises:
        ValueError: alpha is out of its range.
    """

    def __init__(self, context: Context, *, alpha: float = 1.0) -> None:
        super().__init__()
        require(alpha >= LOWEST, "alpha", alpha, f"at least {LOWEST}")
        self.alpha = alpha

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        drawn = Beta(self.alpha, self.alpha).sample().item()
        lam = max(drawn, 1 - drawn)
        on_cpu_N = torch.randperm(len(batch.images_NHWC))  # the same pairs on a GPU
        partner_N = on_cpu_N.to(batch.images_NHWC.device)
        logits_NC = network(mix(batch.images_NHWC, partner_N, lam))
        return Outcome(mixed_cross_entropy(logits_NC, batch.target, partner_N, lam), logits_NC)
