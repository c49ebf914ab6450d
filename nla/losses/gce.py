"""Generalised cross-entropy (GCE): between cross-entropy, which learns well, and 1 - p, which tolerates wrong labels.

    L = mean (1 - p^q) / q                               p: probability of the label

Zhang and Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels", NeurIPS 2018,
arXiv 1805.07836, equation 6; without its truncation.

Legend: N samples, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nla.losses.functional import at_target, require


class GeneralisedCrossEntropyLoss(nn.Module):
    """Mean GCE; for a distribution, its mean over the labels.

    Args:
        q: in (0, 1]; near 0 it is cross-entropy, at 1 it is 1 - p. .7 as for all data sets of the paper.
    """

    def __init__(self, *, q: float = 0.7) -> None:
        super().__init__()
        require(0 < q <= 1, "q", q, "in (0, 1]")
        self.q = q

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """A float32 scalar in [0, 1 / q]."""
        log_p_NC = logits.float().log_softmax(dim=1)
        return at_target(-torch.expm1(self.q * log_p_NC) / self.q, target).mean()
