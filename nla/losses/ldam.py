"""Label-distribution-aware margins (LDAM): the rarer the class, the further its samples must be from the border.

    L_y = CE(softmax(z - m_y e_y), y)                    m_c ~ n_c^(-1/4), n_c: training samples of the class

Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019, arXiv 1906.07413,
equations 12 and 13.

Legend: N samples, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nla.losses.counts import occupied


def margins(class_counts: Tensor, largest: float) -> Tensor:
    """m_c, [C] float32: `largest` for the rarest class, and for one without samples; ValueError where none has any."""
    m_C = occupied(class_counts) ** -0.25
    return largest * m_C / m_C.max()


def margin_losses(logits_NC: Tensor, margin_C: Tensor) -> Tensor:
    """L_y of every sample for every label y, [N, C] float32; the margins are on the scale of the logits."""
    lowered_NCC = logits_NC.float()[:, None, :] - torch.diag(margin_C)  # row y: z with the margin of y on y
    return -lowered_NCC.log_softmax(dim=2).diagonal(dim1=1, dim2=2)
