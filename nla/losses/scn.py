"""Self-Cure Network (SCN): learns an importance of each sample, and relabels unimportant ones.

    L_WCE = mean CE(softmax(alpha z), y)                                          alpha in (0, 1)
    L_RR  = max(0, delta_1 - (mean of the high alphas - mean of the low ones))    high: the share beta of the batch
    L     = gamma L_RR + (1 - gamma) L_WCE
    y    <- argmax p where max p - p_y > delta_2, p = softmax(alpha z)            of the low ones

Wang et al., "Suppressing Uncertainties for Large-Scale Facial Expression Recognition", CVPR 2020, arXiv 2002.10392,
section 3.

Legend: N samples of this worker, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nla.losses.targets import cross_entropy

AS_GIVEN = -1
"""Value in place of a new label for samples that keep theirs."""


def weighted_cross_entropy(logits_NC: Tensor, alpha_N: Tensor, target: Tensor) -> Tensor:
    """L_WCE, a float32 scalar: cross-entropy of alpha z."""
    return cross_entropy(alpha_N[:, None] * logits_NC.float(), target).mean()


def high_samples(size: int, beta: float) -> int:
    """Number of the `size` samples in the group of high importance; each group has at least one."""
    return max(min(round(beta * size), size - 1), 1)


def rank_regularisation(
    alpha_N: Tensor,
    high_N: Tensor,
    counts: tuple[int, int],
    margin: float,
    gather: Callable[[Tensor], Tensor] = lambda rows: rows,
    replicas: int = 1,
) -> Tensor:
    """L_RR of the global batch; each worker returns a scalar, and their mean is L_RR.

    Args:
        alpha_N: importances of this worker's samples.
        high_N: mask of those of high importance.
        counts: numbers of samples of high and of low importance in the global batch.
        margin: delta_1.
        gather: collects the rows of all workers, given those of this one.
        replicas: number of workers.
    """
    high, low = counts
    part = torch.where(high_N, -alpha_N / high, alpha_N / low).sum()  # of mean low - mean high
    wanted = margin + gather(part.detach()[None]).sum() > 0
    return torch.where(wanted, margin + replicas * part, 0.0)


def relabel(logits_NC: Tensor, alpha_N: Tensor, given_N: Tensor, margin: float) -> Tensor:
    """New labels, int64 [N]; AS_GIVEN where max p - p_given is at most `margin` (delta_2)."""
    p_NC = (alpha_N[:, None] * logits_NC.float()).detach().softmax(dim=1)
    highest_N, label_N = p_NC.max(dim=1)
    given_p_N = p_NC.gather(1, given_N[:, None]).squeeze(1)
    return torch.where(highest_N - given_p_N > margin, label_N, AS_GIVEN)


def corrected(target: Tensor, label_N: Tensor) -> Tensor:
    """`target` with the new labels inserted: class indices, or one-hot rows among distributions."""
    new_N = label_N != AS_GIVEN
    if target.ndim == 1:
        return torch.where(new_N, label_N, target)
    one_hot_NC = F.one_hot(label_N.clamp(min=0), target.shape[1]).to(target)
    return torch.where(new_N[:, None], one_hot_NC, target)
