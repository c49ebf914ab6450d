"""mixup: images and labels of two samples, mixed with one ratio.

    x = lam x_i + (1 - lam) x_j                          L = mean [lam CE(z, y_i) + (1 - lam) CE(z, y_j)]

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv 1710.09412.

Legend: N samples, C classes.
"""

from __future__ import annotations

from torch import Tensor

from nla.losses.targets import cross_entropy


def mix(images: Tensor, partner_N: Tensor, lam: float) -> Tensor:
    """Mixes each of N images with its partner's, [N, ...] float32; `partner_N` are positions in the batch."""
    return lam * images.float() + (1 - lam) * images[partner_N].float()


def mixed_cross_entropy(logits_NC: Tensor, target: Tensor, partner_N: Tensor, lam: float) -> Tensor:
    """Cross-entropy L against the mixed labels, a float32 scalar; targets are indices or distributions."""
    own, other = (cross_entropy(logits_NC, given).mean() for given in (target, target[partner_N]))
    return lam * own + (1 - lam) * other
