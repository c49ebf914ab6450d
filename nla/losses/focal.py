"""Focal loss: down-weights samples that are already classified with confidence.

    L = mean (1 - p)^gamma (-log p)                      p: probability of the label

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002, equation 4; there with a sigmoid, here
with softmax.

Legend: N samples, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nla.losses.functional import at_target, require

TINY = 1e-7  # about float32's step below 1; at 1 - p = 0 the gradient is not finite for gamma < 1


class FocalLoss(nn.Module):
    """Mean focal loss; for a distribution, its mean over the labels.

    Args:
        gamma: strength of the down-weighting, >= 0; 2 as for COCO, 0 is cross-entropy.
    """

    def __init__(self, *, gamma: float = 2.0) -> None:
        super().__init__()
        require(gamma >= 0, "gamma", gamma, "at least 0")
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss, a float32 scalar."""
        log_p_NC = logits.float().log_softmax(dim=1)
        rest_NC = -torch.expm1(log_p_NC)  # 1 - p
        return at_target(-(rest_NC.clamp(min=TINY) ** self.gamma) * log_p_NC, target).mean()
