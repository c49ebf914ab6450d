"""Cross-entropy (CE), the baseline.

    L = mean -sum_c q_c log p_c

Legend: N samples, C classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from nla.losses.functional import cross_entropy


class CrossEntropyLoss(nn.Module):
    """Mean cross-entropy against class indices [N] or distributions [N, C]."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss, a float32 scalar."""
        return cross_entropy(logits, target).mean()
