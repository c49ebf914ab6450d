"""Erasing Attention Consistency (EAC): the attention for each class must be mirrored with the face.

    M_c = sum_d w_cd F_d                               class activation map of class c, for all classes
    L   = CE(z, y) + lam mean (M - flip(M'))^2         M' of the mirror image; mean over samples, classes, pixels

Both views have the same random hole, so that the attention cannot rest on one part of the face.

Zhang et al., "Learn From All: Erasing Attention Consistency for Noisy Label Facial Expression Recognition", ECCV 2022,
arXiv 2207.10299.

Legend: N samples, C classes, D features, maps of h x w, images of H x W.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nla.losses.functional import cross_entropy, require
from nla.methods.base import Context, Method, Minibatch, Outcome
from nla.models.classifier import Classifier

WIDEST, TALLEST = 0.3, 3.3  # height / width of a hole in torchvision's RandomErasing, which the authors use


def attention_consistency(maps_NDhw: Tensor, mirrored_NDhw: Tensor, weight_CD: Tensor) -> Tensor:
    """Mean squared difference of the class activation maps, a float32 scalar, without gradient to the weights.

    Maps are linear in the features, so the difference is taken first: M - flip(M') = w (F - flip(F')).
    """
    difference_NDhw = maps_NDhw.float() - mirrored_NDhw.float().flip(-1)
    return torch.einsum("cd,ndhw->nchw", weight_CD.detach(), difference_NDhw).float().square().mean()


def erase(images_NHWC: Tensor, fill_C: Tensor, probability: float, shares: tuple[float, float]) -> Tensor:
    """Fills a hole with `fill_C` in each image with `probability`; its share of the area is uniform in `shares`."""
    number, height, width, _ = images_NHWC.shape
    chance, share, shape, down, right = torch.rand(5, number, 1, device=images_NHWC.device)
    area_N1 = height * width * (shares[0] + share * (shares[1] - shares[0]))
    ratio_N1 = (math.log(WIDEST) + shape * math.log(TALLEST / WIDEST)).exp()
    rows_NH = _span((area_N1 * ratio_N1).sqrt(), height, down)
    columns_NW = _span((area_N1 / ratio_N1).sqrt(), width, right)
    hole_NHW = rows_NH[:, :, None] & columns_NW[:, None, :] & (chance < probability)[:, :, None]
    return torch.where(hole_NHW[..., None], fill_C, images_NHWC)


def _span(length_N1: Tensor, side: int, offset_N1: Tensor) -> Tensor:
    """Returns which of the `side` pixels are in each image's hole, bool [N, side]; `offset_N1` in [0, 1) shifts it."""
    length_N1 = length_N1.round().clamp(1, side)
    first_N1 = (offset_N1 * (side - length_N1 + 1)).floor()
    pixel = torch.arange(side, device=length_N1.device)
    return (pixel >= first_N1) & (pixel < first_N1 + length_N1)


class ErasingAttention(Method):
    """Erasing Attention Consistency, arXiv 2207.10299; only the erased image is classified, not its mirror image.

    The method itself erases holes, on the device, in addition to augment.recipe: use a recipe that does not erase, or
    erasing 0. Both views have the same hole, mirrored in the second; the authors' public code does this for clean
    labels, and draws a hole for each view for noisy ones. Of the paper, only the abstract could be checked; the squared
    difference, and that no gradient goes to the weights of the maps, are from the code. Each worker draws its own
    holes; with erasing 0, the number of workers makes no difference.

    Args:
        context: the run that the method is part of.
        lam: weight of the consistency, at least 0.
        erasing: probability that an image is erased, in [0, 1].
        smallest, largest: bounds of the share of the image that a hole covers, drawn uniformly; in (0, 1].

    Raises:
        ValueError: an option is out of its range.
    """

    needs_feature_maps = True
    needs_linear_head = True  # its weights define the maps

    def __init__(
        self,
        context: Context,
        *,
        lam: float = 5.0,
        erasing: float = 0.5,
        smallest: float = 0.02,
        largest: float = 0.25,
    ) -> None:
        super().__init__()
        require(lam >= 0, "lam", lam, "at least 0")
        require(0 <= erasing <= 1, "erasing", erasing, "in [0, 1]")
        require(0 < smallest <= 1, "smallest", smallest, "in (0, 1]")
        require(smallest <= largest <= 1, "largest", largest, f"between smallest, {smallest}, and 1")
        self.lam, self.erasing, self.shares = lam, erasing, (smallest, largest)

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        mean_C = network.mean.flatten().round().to(torch.uint8)
        images_NHWC = erase(batch.images_NHWC, mean_C, self.erasing, self.shares)
        first_NDhw, mirrored_NDhw = network.maps(images_NHWC, mirrored=True).chunk(2)
        logits_NC = network.feature_backbone.classify(first_NDhw.mean(dim=(2, 3)))
        consistency = attention_consistency(first_NDhw, mirrored_NDhw, network.feature_backbone.fc.weight)
        return Outcome(cross_entropy(logits_NC, batch.target).mean() + self.lam * consistency, logits_NC)
