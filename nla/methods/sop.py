"""Sparse over-parameterisation (SOP): each sample has parameters of its own that learn what is wrong with its label.

    U  = clamp(u^2 y, 0, 1),  V = clamp(v^2 (1 - y), 0, 1)      u: one number per sample, v: one per class
    p^ = p + U - sg V, at least 1e-4, scaled to sum to 1        p = softmax z; sg: no gradient
    L  = mean [-sum_c y_c log p^_c + sum_c (onehot(argmax z) + U - V - y)_c^2 + consistency KL(sg p, p')]
         + balance CE(uniform, mean p^)                         p' of the mirror image; the last mean is over the batch

u and v start near 0 and are learnt by SGD without momentum or weight decay, at learning rates of their own that stay
constant. They grow only where the network, which learns clean labels first, contradicts the label for long.

Liu et al., "Robust Training under Label Noise by Over-parameterization", ICML 2022, arXiv 2202.14026, and the authors'
public code, github.com/shengliu66/SOP.

Legend: N samples of one worker, G of the global batch, M of the training set, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nla.losses.functional import require
from nla.methods.base import Context, Method, Minibatch, Outcome, SampleMemory
from nla.models.classifier import Classifier

FIRST_DEVIATION = 1e-8  # of u and v; exactly 0 would never change
TINY = 1e-4  # the authors' smallest probability


def corrections(u_N1: Tensor, v_NC: Tensor, y_NC: Tensor) -> tuple[Tensor, Tensor]:
    """U and V, each [N, C] in [0, 1]: what speaks for a given label that is wrong, and for the other classes."""
    return (u_N1**2 * y_NC).clamp(0, 1), (v_NC**2 * (1 - y_NC)).clamp(0, 1)


def corrected(logits_NC: Tensor, u_NC: Tensor, v_NC: Tensor) -> Tensor:
    """p^ of logits and U, V: [N, C], rows that sum to about 1, at least TINY."""
    p_NC = (logits_NC.softmax(dim=1) + u_NC - v_NC.detach()).clamp(min=TINY)
    return (p_NC / p_NC.sum(dim=1, keepdim=True)).clamp(TINY, 1)


def residual(logits_NC: Tensor, u_NC: Tensor, v_NC: Tensor, y_NC: Tensor) -> Tensor:
    """Squared distance of the prediction, as a label, with U and V from the given label, [N]; none for the logits."""
    predicted_NC = F.one_hot(logits_NC.argmax(dim=1), y_NC.shape[1])
    return (predicted_NC + u_NC - v_NC - y_NC).square().sum(dim=1)


def imbalance(p_NC: Tensor, gather: Callable[[Tensor], Tensor] = lambda rows: rows) -> Tensor:
    """Cross-entropy of the uniform distribution and the mean of p over the global batch, a scalar.

    `gather` collects the rows of all workers, given those of this one. Averaged over the workers, gradients are those
    of the global mean.
    """
    mean_C = p_NC.mean(dim=0)
    mean_C = gather(p_NC.detach()).mean(dim=0) + (mean_C - mean_C.detach())
    return -mean_C.clamp(TINY, 1).log().mean()


def disagreement(first_NC: Tensor, second_NC: Tensor) -> Tensor:
    """KL(sg p, p') of the logits of both views, [N]; only the second one has a gradient."""
    p_NC = first_NC.detach().softmax(dim=1)
    return F.kl_div(second_NC.log_softmax(dim=1), p_NC, reduction="none").sum(dim=1)


class SparseOverParameterisation(Method):
    """SOP with its consistency and balance terms, arXiv 2202.14026; the second view is the mirror image.

    u and v are in the memory of the samples, not among the parameters of the run's optimizer: only the rows of a batch
    change, on all workers alike, by the gradient of the mean over the global batch.

    Args:
        context: the run that the method is part of.
        lr_u: learning rate of u, at least 0; the authors' for symmetric noise, .1 for asymmetric.
        lr_v: learning rate of v, at least 0; the authors' for symmetric noise, 100 for asymmetric.
        consistency: weight of the consistency of both views, at least 0.
        balance: weight of the balance of the classes in a batch, at least 0.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        context: Context,
        *,
        lr_u: float = 1.0,
        lr_v: float = 10.0,
        consistency: float = 0.9,
        balance: float = 0.1,
    ) -> None:
        super().__init__()
        for name, value in (("lr_u", lr_u), ("lr_v", lr_v), ("consistency", consistency), ("balance", balance)):
            require(value >= 0, name, value, "at least 0")
        self.lr_u, self.lr_v = lr_u, lr_v
        self.consistency, self.balance = consistency, balance
        self.group = context.group
        size = len(context.label_N)
        self.u = SampleMemory(FIRST_DEVIATION * torch.randn(size, 1), context.group)
        self.v = SampleMemory(FIRST_DEVIATION * torch.randn(size, context.num_classes), context.group)

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        first_NC, second_NC = network(batch.images_NHWC, mirrored=True).float().chunk(2)
        y_NC = F.one_hot(batch.target, first_NC.shape[1]) if batch.target.ndim == 1 else batch.target
        u_N1, v_NC = (memory.read(batch.index_N).requires_grad_() for memory in (self.u, self.v))
        loss = self._loss(first_NC, second_NC, y_NC.float(), u_N1, v_NC)
        self._learn(loss, batch.index_N, u_N1, v_NC)
        return Outcome(loss, first_NC)

    def _loss(self, first_NC: Tensor, second_NC: Tensor, y_NC: Tensor, u_N1: Tensor, v_NC: Tensor) -> Tensor:
        up_NC, down_NC = corrections(u_N1, v_NC, y_NC)
        p_NC = corrected(first_NC, up_NC, down_NC)
        loss_N = residual(first_NC, up_NC, down_NC, y_NC) - (y_NC * p_NC.log()).sum(dim=1)
        loss_N = loss_N + self.consistency * disagreement(first_NC, second_NC)
        return loss_N.mean() + self.balance * imbalance(p_NC, self.group.gather)

    def _learn(self, loss: Tensor, index_N: Tensor, u_N1: Tensor, v_NC: Tensor) -> None:
        """A step of SGD for the rows of the batch; the loss of this worker counts as its share of the global mean."""
        gradients = torch.autograd.grad(loss, (u_N1, v_NC), retain_graph=True)
        for memory, lr, gradient in zip((self.u, self.v), (self.lr_u, self.lr_v), gradients, strict=True):
            memory.add(index_N, -lr / self.group.size * gradient)
