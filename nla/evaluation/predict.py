"""Probabilities of a classifier on images; every image once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nla.models.classifier import Classifier


@dataclass(frozen=True)
class Views:
    """The views of an image whose probabilities `predict` averages."""

    mirror: bool = True
    """Each view's mirror is a view too."""
    shift: int = 0
    """So many pixels up, down, left and right are four views more; 0 is none."""

    @property
    def count(self) -> int:
        """Of an image."""
        return (2 if self.mirror else 1) * (5 if self.shift else 1)


ONE_VIEW = Views(mirror=False)


def predict(
    model: Classifier, images_NHWC: np.ndarray, views: Views, *, batch_size: int = 256, bf16: bool = False
) -> np.ndarray:
    """p_NC float32: the mean of the probabilities of all views of an image.

    Args:
        images_NHWC: uint8 of the model's image size; any number, 0 included.
        views: where `shift` moves an image, what comes in repeats the edge.
        bf16: compute in bfloat16 autocast.
    """
    device = next(model.parameters()).device
    parts = [np.empty((0, model.architecture.num_classes), np.float32)]
    with evaluating(model), torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for start in range(0, len(images_NHWC), batch_size):
            own = np.array(images_NHWC[start : start + batch_size])  # PyTorch takes nothing that is read-only
            moved = _shifted(torch.from_numpy(own).to(device), views.shift)
            logits = torch.cat([model(images, mirrored=views.mirror) for images in moved])
            p_VNC = logits.float().softmax(1).reshape(-1, len(own), logits.shape[1])
            parts.append(p_VNC.mean(0).cpu().numpy())
    return np.concatenate(parts)


def _shifted(images_NHWC: Tensor, pixels: int) -> list[Tensor]:
    """The images, and with `pixels` the same moved that far to each side."""
    if not pixels:
        return [images_NHWC]
    _, height, width, _ = images_NHWC.shape
    padded_NCHW = F.pad(images_NHWC.permute(0, 3, 1, 2).float(), [pixels] * 4, mode="replicate")
    ways = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))  # the middle, up, down, left, right
    return [
        padded_NCHW[:, :, down * pixels :, right * pixels :][:, :, :height, :width].permute(0, 2, 3, 1)
        for down, right in ways
    ]


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Eval mode inside, the mode of before outside."""
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)
