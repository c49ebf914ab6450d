"""Symmetric cross-entropy (SCE): cross-entropy plus reverse cross-entropy, with prediction and label swapped.

    L = mean [alpha CE + beta RCE],    RCE = -sum_c p_c log q_c,  log 0 := A

For a hard label RCE is -A (1 - p_y), which tolerates wrong labels; the cross-entropy term makes it converge.

Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy Labels", ICCV 2019, arXiv 1908.06112. Their public
code replaces q = 0 by 1e-4, and so has A = -9.2, while the paper has -4.

Legend: N samples, C classes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nla.losses.functional import cross_entropy, require


class SymmetricCrossEntropyLoss(nn.Module):
    """Mean SCE against class indices [N] or distributions q [N, C], with log q_c clamped to at least A.

    Args:
        alpha: factor of CE, >= 0.
        beta: factor of RCE, >= 0.
        log_zero: A, below 0. All three defaults are those for CIFAR-10.
    """

    def __init__(self, *, alpha: float = 0.1, beta: float = 1.0, log_zero: float = -4.0) -> None:
        super().__init__()
        require(alpha >= 0, "alpha", alpha, "at least 0")
        require(beta >= 0, "beta", beta, "at least 0")
        require(log_zero < 0, "log_zero", log_zero, "below 0")
        self.alpha, self.beta, self.log_zero = alpha, beta, log_zero

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss, a float32 scalar."""
        q_NC = F.one_hot(target, logits.shape[1]) if target.ndim == 1 else target
        log_q_NC = q_NC.float().log().clamp(min=self.log_zero)
        reverse_N = -(logits.float().softmax(dim=1) * log_q_NC).sum(dim=1)
        return (self.alpha * cross_entropy(logits, target) + self.beta * reverse_N).mean()
