"""Attention maps by Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391).

    alpha_d = mean over positions of dz_c / dF_d       F: output of the last stage, z_c: logit of class c
    M_c     = relu(sum_d alpha_d F_d)                  scaled to a maximum of 1

With a linear head on the mean of F it is the class activation map of Zhou et al. (CVPR 2016), clipped at 0.

The map is aligned with the image as the strides are: with padding they keep the first of neighbouring pixels, so that
position i of a map is at pixel i * stride, not in the middle of the i-th part of the image; without, it is at
offset + i * stride. Pixels are those that enter the network, to which the image may have been resized.

Legend: N images of H x W pixels, D features, maps of h x w.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nla.evaluation.predict import evaluating
from nla.models.classifier import Classifier


def attention(model: Classifier, images_NHWC: np.ndarray, class_N: np.ndarray) -> np.ndarray:
    """Evidence for `class_N` in each image, float32 [N, H, W] in [0, 1]; all 0 if there is none.

    Raises:
        ConfigError: the network has no feature maps (a timm network, for example).
    """
    device = next(model.parameters()).device
    with evaluating(model):
        with torch.no_grad():
            maps_NDhw = model.maps(torch.from_numpy(np.array(images_NHWC)).to(device))
        maps_NDhw.requires_grad_()
        logits_NC = model.feature_backbone.classify(maps_NDhw.mean(dim=(2, 3)))
        chosen = logits_NC.gather(1, torch.from_numpy(class_N).to(device)[:, None]).sum()
        (gradient_NDhw,) = torch.autograd.grad(chosen, maps_NDhw)
    alpha_ND11 = gradient_NDhw.mean(dim=(2, 3), keepdim=True)
    heat_Nhw = (alpha_ND11 * maps_NDhw.detach()).sum(dim=1).relu()
    highest_N11 = heat_Nhw.amax(dim=(1, 2), keepdim=True)
    heat_Nhw = torch.where(highest_N11 > 0, heat_Nhw / highest_N11, heat_Nhw).cpu()
    _, height, width, _ = images_NHWC.shape
    network, side = model.feature_backbone, model.architecture.input_size
    down_Hh, across_Ww = (
        interpolation(pixels, positions, network.stride, network.offset, side)
        for pixels, positions in zip((height, width), heat_Nhw.shape[1:], strict=True)
    )
    return torch.einsum("Hh,nhw,Ww->nHW", down_Hh, heat_Nhw, across_Ww).numpy()


def interpolation(pixels: int, positions: int, stride: int, offset: int = 0, side: int | None = None) -> Tensor:
    """Interpolation weights [pixels, positions]: linear between positions, constant beyond the first and the last one.

    Args:
        stride: pixels of the network's input between two positions.
        offset: pixel of the input at which the first position is.
        side: size of the input; None if it is the image's, `pixels`.
    """
    centre_P = torch.arange(pixels) + 0.5  # in the image
    scale = 1 if side is None else side / pixels
    at_P = ((centre_P * scale - 0.5 - offset) / stride).clamp(min=0, max=positions - 1)
    return (1 - (at_P[:, None] - torch.arange(positions)).abs()).clamp(min=0)
