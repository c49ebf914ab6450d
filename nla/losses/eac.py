"""Erasing Attention Consistency (EAC): the attention for each class must be mirrored with the face.

    M_c = sum_d w_cd F_d                               class activation map of class c, for all classes
    L   = CE(z, y) + lambda mean (M - flip(M'))^2      M' of the mirrored image; the mean over samples, classes, places

Zhang et al., "Learn From All: Erasing Attention Consistency for Noisy Label Facial Expression Recognition", ECCV 2022,
arXiv 2207.10299.

Legend: N samples, C classes, D features, maps of h x w.
"""

from __future__ import annotations

import torch
from torch import Tensor


def attention_consistency(maps_NDhw: Tensor, mirrored_NDhw: Tensor, weight_CD: Tensor) -> Tensor:
    """Mean squared difference of the class activation maps, a float32 scalar, without gradient to the weights.

    Maps are linear in the features, so the difference is taken first: M - flip(M') = w (F - flip(F')).
    """
    difference_NDhw = maps_NDhw.float() - mirrored_NDhw.float().flip(-1)
    return torch.einsum("cd,ndhw->nchw", weight_CD.detach(), difference_NDhw).float().square().mean()
