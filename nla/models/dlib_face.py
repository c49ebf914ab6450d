"""dlib's face recognition network up to its fourth level, as a network to fine-tune.

Published as `dlib_face_recognition_resnet_model_v1.dat` by Davis King, http://dlib.net, a ResNet of 29 convolutions
that maps faces of 150 px to 128 numbers, by which people are told apart. The layers here were read from that file, and
nla/models/dlib_file.py reads their weights. What the file has above the fourth level was trained to ignore expressions
and is left out: a fifth level of one block, and the linear map to the 128 numbers.

Where it differs from the ResNets of nla/models/resnet.py: what halves the resolution has no padding, the shortcut has
no weights (where shapes differ it is an average pool, and channels and cells that one summand lacks count as 0), and
every image is normalised by the constants that the network was trained with.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nla.config.network_catalog import find_network
from nla.errors import ConfigError
from nla.models.base import Architecture, FeatureMapBackbone, ImageSpec

MEAN, SCALE = (122.782, 117.001, 104.298), 256.0
"""Pixels of 0..255, red, green and blue: (pixel - MEAN) / SCALE."""
LEVELS = ((32, 3), (64, 4), (128, 3), (256, 3))
"""Channels and number of blocks; the first block of each level but the first halves the resolution."""


def build_dlib_face(architecture: Architecture, image: ImageSpec) -> DlibFace:
    """Builds the network. Raises ConfigError if the images are too small for its last level."""
    network, side = find_network(architecture.name), architecture.input_side(image)
    assert network is not None
    if side < network.smallest_input:
        raise ConfigError(
            f"model.input_size: {architecture.name} needs at least {network.smallest_input} pixels (got {side}). "
            f"Set it to {network.input_size}."
        )
    return DlibFace(architecture, image)


class Block(nn.Module):
    """x -> relu(f(x) + shortcut(x)); f is two 3x3 convolutions."""

    def __init__(self, channels_in: int, channels: int, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        stride, padding = (2, 0) if halves else (1, 1)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(padded_sum(y, F.avg_pool2d(x, 2)) if self.halves else y + x)


def padded_sum(a: Tensor, b: Tensor) -> Tensor:
    """[N, C, H, W] + [N, c, h, w]: channels, rows and columns that one of them lacks at its end count as 0."""
    shape = [max(sizes) for sizes in zip(a.shape[1:], b.shape[1:], strict=True)]
    return _pad(a, shape) + _pad(b, shape)


def _pad(x: Tensor, shape: list[int]) -> Tensor:
    channels, height, width = (wanted - size for wanted, size in zip(shape, x.shape[1:], strict=True))
    return F.pad(x, (0, width, 0, height, 0, channels)) if channels or height or width else x


class DlibFace(FeatureMapBackbone):
    """[N, channels, H, W] -> logits [N, num_classes]; grey images are repeated to red, green and blue.

    Images arrive normalised by the statistics of the training set, which are replaced by dlib's constants.
    """

    stride = 2 ** (2 + len(LEVELS) - 1)
    offset = 33
    """The first convolution, 7x7, is centred on pixel 3, and each of the four 3x3 windows that halve starts its own
    half-width further in: 3 + 2 + 4 + 8 + 16."""
    gain: Tensor
    shift: Tensor

    def __init__(self, architecture: Architecture, image: ImageSpec) -> None:
        super().__init__()
        mean, std, own = (torch.tensor(values).view(1, -1, 1, 1) for values in (image.mean, image.std, MEAN))
        self.register_buffer("gain", 255 * std / SCALE, persistent=False)
        self.register_buffer("shift", (255 * mean - own) / SCALE, persistent=False)
        channels_in = LEVELS[0][0]
        self.conv1 = nn.Conv2d(3, channels_in, 7, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_in)
        for i, (channels, depth) in enumerate(LEVELS):
            widths = [channels_in] + [channels] * (depth - 1)
            blocks = [Block(width, channels, halves=i > 0 and j == 0) for j, width in enumerate(widths)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
            channels_in = channels
        self.dropout = nn.Dropout(architecture.dropout)
        self.fc = nn.Linear(channels_in, architecture.num_classes)
        for module in self.modules():  # He et al. 2015, for training from scratch
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] -> output of the fourth level, [N, 256, h, w]; 2 x 2 for 100 px, 4 x 4 for 150 px."""
        x = x * self.gain + self.shift
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2)
        for i in range(len(LEVELS)):
            x = self.get_submodule(f"layer{i + 1}")(x)
        return x
