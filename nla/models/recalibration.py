"""Statistics for batch norms that a file holds folded, as factor and summand per channel.

Such a layer computes the same in evaluation, but not in training, where BatchNorm2d normalises by its batch. So it is
given the mean m and the variance v of what it sees on some training images, and weight and bias that keep its function:

    weight' = weight sqrt((v + eps) / (var + eps))      bias' = bias + weight (m - mean) / sqrt(var + eps)

Since no function changes, one pass through the network is enough for all of its layers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from nla.models.classifier import Classifier

IMAGES = 256
"""Largest number of images; a channel of the last maps of dlib_face sees 1,024 cells of 100 px, 4,096 of 150 px."""
BATCH = 32
CALIBRATION = 14
"""Purpose of the random stream, next to ORDER and AUGMENT of nla.data.loader and METHOD of nla.training."""
SMALLEST = 1e-8
"""Of the variance: a channel that is 0 everywhere."""


class _Moments:
    """Sums over cells of what enters a layer, as a forward hook; float64."""

    def __init__(self) -> None:
        self.count, self.sum_C, self.squares_C = 0, torch.zeros(1).double(), torch.zeros(1).double()

    def __call__(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        x_NCHW = inputs[0].double()
        self.count += x_NCHW.numel() // x_NCHW.shape[1]
        self.sum_C = self.sum_C + x_NCHW.sum(dim=(0, 2, 3))
        self.squares_C = self.squares_C + x_NCHW.square().sum(dim=(0, 2, 3))


def calibration_images(images_NHWC: np.ndarray, seed: int) -> np.ndarray:
    """Up to IMAGES of the images, drawn from the seed, in their order."""
    chosen = np.random.default_rng((seed, CALIBRATION)).permutation(len(images_NHWC))[:IMAGES]
    return np.asarray(images_NHWC[np.sort(chosen)])


@torch.no_grad()
def recalibrated(network: Classifier, tensors: Mapping[str, Tensor], images_NHWC: np.ndarray) -> dict[str, Tensor]:
    """`tensors` of a backbone with folded batch norms, these with statistics of the images; uint8 [N, H, W, C].

    The network is that of the tensors, on the CPU; they are loaded into it.
    """
    network.backbone.load_state_dict(dict(tensors), strict=False)
    norms = {name: module for name, module in network.backbone.named_modules() if isinstance(module, nn.BatchNorm2d)}
    moments = {name: _Moments() for name in norms}
    hooks = [norms[name].register_forward_hook(hook) for name, hook in moments.items()]
    network.eval()
    for start in range(0, len(images_NHWC), BATCH):
        network(torch.from_numpy(images_NHWC[start : start + BATCH]))
    for hook in hooks:
        hook.remove()
    changed = {f"{name}.{key}": t for name, norm in norms.items() for key, t in _settled(norm, moments[name]).items()}
    return {**tensors, **changed}


def _settled(norm: nn.BatchNorm2d, moments: _Moments) -> dict[str, Tensor]:
    """Tensors of a layer with the same function and the given moments."""
    assert norm.running_mean is not None and norm.running_var is not None
    mean = moments.sum_C / moments.count
    variance = (moments.squares_C / moments.count - mean.square()).clamp(min=SMALLEST)
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    settled = {
        "weight": factor * (variance + norm.eps).sqrt(),
        "bias": norm.bias.double() + factor * (mean - norm.running_mean.double()),
        "running_mean": mean,
        "running_var": variance,
    }
    return {name: tensor.float() for name, tensor in settled.items()}
