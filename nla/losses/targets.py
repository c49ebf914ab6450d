"""Common access to targets, which are class indices [N] or distributions q [N, C].

Legend: N samples, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def given_label(target: Tensor) -> Tensor:
    """The given label g_N: `target` itself, or the first argmax of a distribution."""
    return target if target.ndim == 1 else target.argmax(dim=1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy per sample, [N] float32: -log p[g], or -sum_c q_c log p_c for a distribution q."""
    return F.cross_entropy(logits.float(), target if target.ndim == 1 else target.float(), reduction="none")


def at_target(values_NC: Tensor, target: Tensor) -> Tensor:
    """Each sample's value at its label, [N]; for a distribution, the mean over the labels: sum_c q_c value_c."""
    if target.ndim == 1:
        return values_NC.gather(1, target[:, None]).squeeze(1)
    return (target.float() * values_NC).sum(dim=1)


def given_and_rival(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(p_GT, p_NN), each [N]: the probability of the given label, and the largest among the other classes.

    Args:
        logits: [N, C] with C >= 2, of any floating type; the result is float32.
        target: [N] class indices, or [N, C] distributions.
    """
    return label_and_rival(logits.float().softmax(dim=1), target)


def label_and_rival(p_NC: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The same for probabilities p, [N, C] float32."""
    g_N1 = given_label(target)[:, None]
    rivals_NC = p_NC.masked_fill(torch.zeros_like(p_NC, dtype=torch.bool).scatter(1, g_N1, True), -1.0)
    return p_NC.gather(1, g_N1).squeeze(1), rivals_NC.amax(dim=1)
