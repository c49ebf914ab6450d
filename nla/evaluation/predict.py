"""Class probabilities of images, averaged over views: in float32, unless the caller is in training.

Evaluation, the predictor, served and exported models all compute by `mean_probabilities`, with the views of the model's
card, so that a model gives an image the same answer everywhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nla.models.classifier import Classifier
from nla.models.views import ONE_VIEW, Views

__all__ = ["ONE_VIEW", "Views", "evaluating", "mean_probabilities", "predict"]


def predict(
    model: Classifier, images_NHWC: np.ndarray, views: Views, *, batch_size: int = 256, bf16: bool = False
) -> np.ndarray:
    """Mean probabilities over all views of each image, [N, C] float32.

    Args:
        images_NHWC: uint8 of the model's image size; N can be 0.
        views: views to average over; shifted ones repeat the edge of the image.
        bf16: compute in bfloat16 autocast, as training does when it validates an epoch.
    """
    device = next(model.parameters()).device
    parts = [np.empty((0, model.architecture.num_classes), np.float32)]
    with evaluating(model), torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for start in range(0, len(images_NHWC), batch_size):
            own = np.array(images_NHWC[start : start + batch_size])  # a copy, as PyTorch rejects read-only arrays
            parts.append(mean_probabilities(model, torch.from_numpy(own).to(device), views).cpu().numpy())
    return np.concatenate(parts)


def mean_probabilities(model: Classifier, images_NHWC: Tensor, views: Views) -> Tensor:
    """Mean probabilities over all views of each image of a batch, [N, C] float32, by the model as it is."""
    moved = _shifted(images_NHWC, views.shift)
    logits = torch.cat([model(images, mirrored=views.mirror) for images in moved])
    p_VNC = logits.float().softmax(1).reshape(views.count, -1, model.architecture.num_classes)
    return p_VNC.mean(0)


def _shifted(images_NHWC: Tensor, pixels: int) -> list[Tensor]:
    """The images and, if `pixels` is not 0, copies of them shifted that far in each direction."""
    if not pixels:
        return [images_NHWC]
    _, height, width, _ = images_NHWC.shape
    padded_NCHW = F.pad(images_NHWC.permute(0, 3, 1, 2).float(), [pixels] * 4, mode="replicate")
    ways = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))  # centre, up, down, left, right
    return [
        padded_NCHW[:, :, down * pixels :, right * pixels :][:, :, :height, :width].permute(0, 2, 3, 1)
        for down, right in ways
    ]


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Sets eval mode inside the block, and restores the previous mode after it."""
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)
