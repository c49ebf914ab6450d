"""Label smoothing: moves a little of every label to all classes equally.

    L = mean CE(p, (1 - eps) q + eps / C) = mean [(1 - eps) CE + eps mean_c(-log p_c)]

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, arXiv 1512.00567, section 7.

Legend: N samples, C classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from nla.losses.functional import at_target, require


class LabelSmoothingLoss(nn.Module):
    """Mean cross-entropy against smoothed labels; a distribution q is smoothed like a one-hot label.

    Args:
        eps: share spread over all C classes, including the label's, in [0, 1]; .1 as for ImageNet.
    """

    def __init__(self, *, eps: float = 0.1) -> None:
        super().__init__()
        require(0 <= eps <= 1, "eps", eps, "in [0, 1]")
        self.eps = eps

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss, a float32 scalar."""
        loss_NC = -logits.float().log_softmax(dim=1)
        return (1 - self.eps) * at_target(loss_NC, target).mean() + self.eps * loss_NC.mean()
