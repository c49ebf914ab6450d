"""Early-Learning Regularisation (ELR): keeps predictions close to those made before wrong labels were memorised.

    L = mean CE + lam * mean log(1 - <p, t>)        t: running mean of the predictions on the sample

Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels", NeurIPS 2020, arXiv 2007.00151.

Legend: N samples, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-4  # the authors' code clamps probabilities to [1e-4, 1 - 1e-4]: the logarithm needs <p, t> < 1


def early_learning(logits_NC: Tensor, memory_NC: Tensor) -> Tensor:
    """mean log(1 - <p, t>), a float32 scalar <= 0; only p gets a gradient."""
    agreement_N = (_clamped(logits_NC) * memory_NC.detach()).sum(dim=1)
    return torch.log1p(-agreement_N).mean()


def remember(memory_NC: Tensor, logits_NC: Tensor, beta: float) -> Tensor:
    """t <- beta t + (1 - beta) p / sum p, without gradient; [N, C] float32, rows of zeros before their first batch."""
    p_NC = _clamped(logits_NC.detach())
    return beta * memory_NC + (1 - beta) * p_NC / p_NC.sum(dim=1, keepdim=True)


def _clamped(logits_NC: Tensor) -> Tensor:
    return logits_NC.float().softmax(dim=1).clamp(TINY, 1 - TINY)
