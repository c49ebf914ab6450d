"""Functions that losses and methods share: targets, class counts, consistency of two views, schedules, ranking.

A target is a class index [N] or a distribution q [N, C]. Everything is computed in float32, whatever the dtype of the
logits.

Legend: N samples of one worker, G samples of the global batch, C classes; z logits, p = softmax(z).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# --- options ---------------------------------------------------------------------------------------------------------


def require(holds: bool, name: str, value: object, condition: str) -> None:
    """Checks an option of a loss; `holds` must be False for NaN.

    Raises:
        ValueError: "NAME must be CONDITION (got VALUE)".
    """
    if not holds:
        raise ValueError(f"{name} must be {condition} (got {value!r})")


# --- means -----------------------------------------------------------------------------------------------------------


def mean(value_N: Tensor, count: float | None = None) -> Tensor:
    """The mean of the values of N samples; with `count`, above 0, their sum divided by that, which is 0 without any."""
    return value_N.mean() if count is None else value_N.sum() / count


# --- targets ---------------------------------------------------------------------------------------------------------


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


def p_gt_and_p_nn(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(p_GT, p_NN), each [N]: probability of the given label, and of the nearest negative, the likeliest other class.

    Args:
        logits: [N, C] with C >= 2, of any floating type; the result is float32.
        target: [N] class indices, or [N, C] distributions.
    """
    return label_and_nearest(logits.float().softmax(dim=1), target)


def label_and_nearest(p_NC: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The same for probabilities p, [N, C] float32."""
    g_N1 = given_label(target)[:, None]
    others_NC = p_NC.masked_fill(torch.zeros_like(p_NC, dtype=torch.bool).scatter(1, g_N1, True), -1.0)
    return p_NC.gather(1, g_N1).squeeze(1), others_NC.amax(dim=1)


# --- class counts ----------------------------------------------------------------------------------------------------


def positive_counts(class_counts: Tensor) -> Tensor:
    """The counts [C] as float32; a class without samples gets the count of the rarest class that has some.

    Counts need not be whole: those of distributions are the sums of their shares.
    Such a class has no weight, margin or prior of its own; with a count of 0 or 1 it would dominate the others.

    Raises:
        ValueError: no class has a sample.
    """
    positive = class_counts[class_counts > 0]
    if not len(positive):
        raise ValueError("no class has a sample")
    return class_counts.clamp(min=positive.min().item()).float()


def log_prior(class_counts: Tensor) -> Tensor:
    """log(n / sum n) of the positive counts, [C]."""
    n_C = positive_counts(class_counts)
    return (n_C / n_C.sum()).log()


# --- consistency of the predictions P, Q on an image and on its mirror image -----------------------------------------


def jensen_shannon(logits: Tensor, logits_flipped: Tensor) -> Tensor:
    """Jensen-Shannon divergence (KL(P||M) + KL(Q||M)) / 2 with M = (P + Q) / 2, [N] in [0, log 2]. Lin 1991."""
    log_p_NC, log_q_NC = logits.float().log_softmax(1), logits_flipped.float().log_softmax(1)
    log_m_NC = torch.logaddexp(log_p_NC, log_q_NC) - math.log(2)
    kl_NC = log_p_NC.exp() * (log_p_NC - log_m_NC) + log_q_NC.exp() * (log_q_NC - log_m_NC)
    return kl_NC.sum(1) / 2


def bhattacharyya(logits: Tensor, logits_flipped: Tensor) -> Tensor:
    """Bhattacharyya distance -log sum_c sqrt(P_c Q_c), [N] in [0, inf).

    NLA's released code computes it under the name of a Jensen-Shannon divergence: from the mean of the *logits*,
    G = softmax((z + z') / 2), and the reversed KL, (KL(G||P) + KL(G||Q)) / 2, which is the same number because
    log G = (log P + log Q) / 2 - log sum sqrt(P Q).
    """
    log_p_NC, log_q_NC = logits.float().log_softmax(1), logits_flipped.float().log_softmax(1)
    return -((log_p_NC + log_q_NC) / 2).logsumexp(1)


# --- schedule --------------------------------------------------------------------------------------------------------


def ramp_up(progress: float, slope: float) -> float:
    """1 - exp(-slope * progress) with progress = epoch / epochs, so 0 at the start; as in NAW, arXiv 2502.09993."""
    return 1 - math.exp(-slope * progress)


# --- ranking ---------------------------------------------------------------------------------------------------------


def rank_in_batch(value_N: Tensor, index_N: Tensor, value_G: Tensor, index_G: Tensor) -> Tensor:
    """Rank of each of the N samples among the G, int64, 0 for the smallest; ties are broken by the lower index."""
    smaller_NG = value_G < value_N[:, None]
    equal_NG = (value_G == value_N[:, None]) & (index_G < index_N[:, None])
    return (smaller_NG | equal_NG).sum(dim=1)
