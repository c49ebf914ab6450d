"""Early-Learning Regularisation (ELR): keeps predictions close to those made before wrong labels were memorised.

    t <- beta t + (1 - beta) p                      running mean of the predictions on the sample, over the epochs
    L  = mean CE + lam * mean log(1 - <p, t>)

Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels", NeurIPS 2020, arXiv 2007.00151.

Legend: N samples, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nla.losses.functional import cross_entropy, require
from nla.methods.base import Context, Method, Minibatch, Outcome, SampleMemory
from nla.models.classifier import Classifier

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


class EarlyLearning(Method):
    """Early-Learning Regularisation, arXiv 2007.00151; the defaults are the authors' for ten classes (CIFAR-10).

    Args:
        context: the run that the method is part of.
        lam: weight of the regulariser, at least 0.
        beta: momentum of the memory, in [0, 1).

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(self, context: Context, *, lam: float = 3.0, beta: float = 0.7) -> None:
        super().__init__()
        require(lam >= 0, "lam", lam, "at least 0")
        require(0 <= beta < 1, "beta", beta, "in [0, 1)")
        self.lam, self.beta = lam, beta
        self.mean = SampleMemory(torch.zeros(len(context.label_N), context.num_classes), context.group)

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        logits_NC = network(batch.images_NHWC)
        memory_NC = remember(self.mean.read(batch.index_N), logits_NC, self.beta)
        self.mean.write(batch.index_N, memory_NC)
        loss = cross_entropy(logits_NC, batch.target).mean() + self.lam * early_learning(logits_NC, memory_NC)
        return Outcome(loss, logits_NC)
