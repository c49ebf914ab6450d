"""Label-distribution-aware margins (LDAM): the rarer the class, the larger its margin.

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
    """Margins m_c, [C] float32: `largest` for the rarest class, and for classes without samples.

    Raises:
        ValueError: no class has a sample.
    """
    m_C = occupied(class_counts) ** -0.25
    return largest * m_C / m_C.max()


def margin_losses(logits_NC: Tensor, margin_C: Tensor) -> Tensor:
    """L_y of every sample for every label y, [N, C] float32; margins are on the scale of the logits."""
    lowered_NCC = logits_NC.float()[:, None, :] - torch.diag(margin_C)  # row y: z minus y's margin at y
    return -lowered_NCC.log_softmax(dim=2).diagonal(dim1=1, dim2=2)
