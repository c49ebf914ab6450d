"""Probabilities of a classifier on images; every image once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

from nla.models.classifier import Classifier


def predict(
    model: Classifier, images_NHWC: np.ndarray, *, mirror: bool = True, batch_size: int = 256, bf16: bool = False
) -> np.ndarray:
    """p_NC float32. With `mirror`, the mean of the probabilities of an image and of its mirror.

    Args:
        images_NHWC: uint8 of the model's image size; any number, 0 included.
        bf16: compute in bfloat16 autocast.
    """
    device = next(model.parameters()).device
    parts = [np.empty((0, model.architecture.num_classes), np.float32)]
    with evaluating(model), torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for start in range(0, len(images_NHWC), batch_size):
            batch = torch.from_numpy(np.array(images_NHWC[start : start + batch_size])).to(
                device
            )  # what is shared is read-only
            p = model(batch, mirrored=mirror).float().softmax(1)
            p_NC = torch.stack(p.chunk(2)).mean(0) if mirror else p
            parts.append(p_NC.cpu().numpy())
    return np.concatenate(parts)


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Eval mode inside, the mode of before outside."""
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)
