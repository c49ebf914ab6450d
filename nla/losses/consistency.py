"""Distances between the predictions on an image and on its mirror image, one value per sample, [N].

Legend: N samples, C classes; P = softmax(z), Q = softmax(z').
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def jensen_shannon(logits: Tensor, logits_flipped: Tensor) -> Tensor:
    """Jensen-Shannon divergence (KL(P||M) + KL(Q||M)) / 2 with M = (P + Q) / 2; in [0, log 2]. Lin 1991."""
    log_p_NC, log_q_NC = logits.float().log_softmax(1), logits_flipped.float().log_softmax(1)
    log_m_NC = torch.logaddexp(log_p_NC, log_q_NC) - math.log(2)
    kl_NC = log_p_NC.exp() * (log_p_NC - log_m_NC) + log_q_NC.exp() * (log_q_NC - log_m_NC)
    return kl_NC.sum(1) / 2


def bhattacharyya(logits: Tensor, logits_flipped: Tensor) -> Tensor:
    """Bhattacharyya distance -log sum_c sqrt(P_c Q_c); in [0, inf).

    NLA's released code computes it under the name of a Jensen-Shannon divergence: from the mean of the *logits*,
    G = softmax((z + z') / 2), and the reversed KL, (KL(G||P) + KL(G||Q)) / 2, which is the same number because
    log G = (log P + log Q) / 2 - log sum sqrt(P Q).
    """
    log_p_NC, log_q_NC = logits.float().log_softmax(1), logits_flipped.float().log_softmax(1)
    return -((log_p_NC + log_q_NC) / 2).logsumexp(1)
