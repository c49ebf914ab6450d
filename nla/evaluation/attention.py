"""Where the network looks: Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391).

    alpha_d = mean over places of dz_c / dF_d          F: what the last stage sees, z_c: logit of class c
    M_c     = relu(sum_d alpha_d F_d)                  scaled to 1 at its highest place

With a linear head behind the mean of F it is the class activation map of Zhou et al. (CVPR 2016), cut off at 0.

The map is laid over the image where its places are: strides take the first of two neighbours, so that place i of a map
belongs to pixel i * stride, and not to the middle of the i-th part of the image.

Legend: N images of H x W pixels, D features, maps of h x w.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nla.evaluation.predict import evaluating
from nla.models.classifier import Classifier


def attention(model: Classifier, images_NHWC: np.ndarray, class_N: np.ndarray) -> np.ndarray:
    """float32 [N, H, W] in [0, 1]: what speaks for `class_N` in each image; all 0 where nothing does.

    Raises WeightsError for a network of timm, whose last stage is not known here.
    """
    device = next(model.parameters()).device
    with evaluating(model):
        with torch.no_grad():
            maps_NDhw = model.maps(torch.from_numpy(np.array(images_NHWC)).to(device))
        maps_NDhw.requires_grad_()
        logits_NC = model.resnet.classify(maps_NDhw.mean(dim=(2, 3)))
        chosen = logits_NC.gather(1, torch.from_numpy(class_N).to(device)[:, None]).sum()
        (slope_NDhw,) = torch.autograd.grad(chosen, maps_NDhw)
    alpha_ND11 = slope_NDhw.mean(dim=(2, 3), keepdim=True)
    heat_Nhw = (alpha_ND11 * maps_NDhw.detach()).sum(dim=1).relu()
    highest_N11 = heat_Nhw.amax(dim=(1, 2), keepdim=True)
    heat_Nhw = torch.where(highest_N11 > 0, heat_Nhw / highest_N11, heat_Nhw).cpu()
    _, height, width, _ = images_NHWC.shape
    down_Hh, across_Ww = (
        between(pixels, places, model.resnet.stride)
        for pixels, places in zip((height, width), heat_Nhw.shape[1:], strict=True)
    )
    return torch.einsum("Hh,nhw,Ww->nHW", down_Hh, heat_Nhw, across_Ww).numpy()


def between(pixels: int, places: int, stride: int) -> Tensor:
    """[pixels, places]: the share of each place in each pixel, linear between two places, the last one beyond it."""
    at_P = (torch.arange(pixels) / stride).clamp(max=places - 1)
    return (1 - (at_P[:, None] - torch.arange(places)).abs()).clamp(min=0)
