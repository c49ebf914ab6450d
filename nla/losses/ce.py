"""Cross-entropy, the baseline."""

from __future__ import annotations

from torch import Tensor, nn

from nla.losses.targets import cross_entropy


class CrossEntropyLoss(nn.Module):
    """Mean cross-entropy against class indices [N] or distributions [N, C]; looks at one view."""

    two_views = False

    def forward(
        self, logits: Tensor, logits_flipped: Tensor | None, target: Tensor, progress: float, replicas: int = 1
    ) -> Tensor:
        """A scalar; `logits_flipped`, `progress` and `replicas` are there for the common signature."""
        return cross_entropy(logits, target).mean()
