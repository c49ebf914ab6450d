"""Symmetric cross-entropy (SCE): cross-entropy, and the same with prediction and label in each other's place.

    L = mean [alpha CE + beta RCE],    RCE = -sum_c p_c log q_c,  log 0 := A

Of a hard label RCE is -A (1 - p_y), which bears wrong labels; cross-entropy beside it makes it converge.

Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy Labels", ICCV 2019, arXiv 1908.06112. Their public
code sets q = 1e-4 in place of 0, and so A = -9.2, where the paper has -4.

Legend: N samples, C classes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nla.losses.targets import cross_entropy


class SymmetricCrossEntropyLoss(nn.Module):
    """Mean SCE against class indices [N] or distributions q [N, C], of which no log q_c lies below A.

    Args:
        alpha: factor of CE, at or above 0.
        beta: factor of RCE, at or above 0.
        log_zero: A, below 0. All three as for CIFAR-10.
    """

    def __init__(self, *, alpha: float = 0.1, beta: float = 1.0, log_zero: float = -4.0) -> None:
        super().__init__()
        if not (alpha >= 0 and beta >= 0 and log_zero < 0):
            raise ValueError(f"sce needs alpha >= 0, beta >= 0 and log_zero < 0, not {alpha}, {beta} and {log_zero}")
        self.alpha, self.beta, self.log_zero = alpha, beta, log_zero

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """A float32 scalar."""
        q_NC = F.one_hot(target, logits.shape[1]) if target.ndim == 1 else target
        log_q_NC = q_NC.float().log().clamp(min=self.log_zero)
        reverse_N = -(logits.float().softmax(dim=1) * log_q_NC).sum(dim=1)
        return (self.alpha * cross_entropy(logits, target) + self.beta * reverse_N).mean()
