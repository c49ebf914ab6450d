"""ResNet-18, -34 and -50 with torchvision's key names, so that any checkpoint in that format fits.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
Beyond the original: `width` channels behind the stem, stems for images of 48 to 112 pixels, and a cosine head.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STAGES = ("layer1", "layer2", "layer3", "layer4")
COSINE_SCALE = 30.0  # of LDAM's public code; cosines alone, at most 1, would keep softmax from ever being sure


def _convolution(side: int, channels_in: int, channels: int, stride: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A convolution that keeps the size but for its stride, and the normalisation behind it."""
    convolution = nn.Conv2d(channels_in, channels, side, stride, padding=side // 2, bias=False)
    return convolution, nn.BatchNorm2d(channels)


def _downsample(channels_in: int, channels: int, stride: int) -> nn.Sequential | None:
    """The shortcut where the shape changes."""
    same = stride == 1 and channels_in == channels
    return None if same else nn.Sequential(*_convolution(1, channels_in, channels, stride))


class Block(nn.Module):
    """x -> relu(f(x) + shortcut(x)); its output has `expansion` times `channels`."""

    expansion: ClassVar[int]
    downsample: nn.Sequential | None

    def f(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.f(x) + shortcut)


class BasicBlock(Block):
    """f is two 3x3 convolutions."""

    expansion = 1

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(3, channels_in, channels, stride)
        self.conv2, self.bn2 = _convolution(3, channels, channels)
        self.downsample = _downsample(channels_in, channels, stride)

    def f(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))


class Bottleneck(Block):
    """f is a 3x3 convolution of fewer channels between two of 1x1; the stride is the 3x3's, as torchvision has it."""

    expansion = 4

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(1, channels_in, channels)
        self.conv2, self.bn2 = _convolution(3, channels, channels, stride)
        self.conv3, self.bn3 = _convolution(1, channels, channels * self.expansion)
        self.downsample = _downsample(channels_in, channels * self.expansion, stride)

    def f(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))


BLOCKS: dict[str, tuple[type[Block], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}
"""Their kind, and how many of them a stage has."""


STEM_STRIDES = {"imagenet": 4, "stride2": 2, "stride1": 1}


def _stem(kind: str, channels_in: int, width: int) -> tuple[nn.Conv2d, nn.Module]:
    """The first convolution, and the pooling behind it."""
    if kind == "imagenet":  # 224 px -> 56
        return nn.Conv2d(channels_in, width, 7, 2, padding=3, bias=False), nn.MaxPool2d(3, 2, padding=1)
    # 48 px -> 24, or 48
    return nn.Conv2d(channels_in, width, 3, STEM_STRIDES[kind], padding=1, bias=False), nn.Identity()


class CosineLinear(nn.Linear):
    """Features [N, D] -> COSINE_SCALE * cos(feature, weight of the class), [N, num_classes]; it has no bias."""

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__(features, num_classes, bias=False)
        nn.init.normal_(self.weight)  # all directions alike; lengths do not matter

    def forward(self, features_ND: Tensor) -> Tensor:
        with torch.autocast(features_ND.device.type, enabled=False):  # bfloat16 tells no cosines apart that lie close
            return COSINE_SCALE * F.linear(F.normalize(features_ND.float()), F.normalize(self.weight))


HEADS: dict[str, type[nn.Linear]] = {"linear": nn.Linear, "cosine": CosineLinear}


class ResNet(nn.Module):
    """[N, channels, H, W] -> logits [N, num_classes]."""

    def __init__(
        self,
        name: str,
        num_classes: int,
        *,
        channels: int = 3,
        width: int = 64,
        stem: str = "imagenet",
        dropout: float = 0,
        head: str = "linear",
    ) -> None:
        super().__init__()
        self.stride = STEM_STRIDES[stem] * 2 ** (len(STAGES) - 1)
        """Pixels between neighbours in `maps`: place i looks at pixel i * stride, and as far to both sides of it."""
        self.conv1, self.maxpool = _stem(stem, channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        block, depths = BLOCKS[name]
        incoming = width
        for i, (stage, depth) in enumerate(zip(STAGES, depths, strict=True)):
            inner = width * 2**i
            outgoing = inner * block.expansion
            strides = [1 if i == 0 else 2] + [1] * (depth - 1)
            channels_in = [incoming] + [outgoing] * (depth - 1)
            blocks = [block(c, inner, s) for c, s in zip(channels_in, strides, strict=True)]
            self.add_module(stage, nn.Sequential(*blocks))
            incoming = outgoing
        self.dropout = nn.Dropout(dropout)
        self.fc = HEADS[head](incoming, num_classes)
        self.apply(_initialise)

    def maps(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] -> what the last stage sees, [N, D, h, w] with D = 8 width, or 32 width for -50."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        for stage in STAGES:
            x = self.get_submodule(stage)(x)
        return x

    def classify(self, features_ND: Tensor) -> Tensor:
        """Logits of features, which are the mean of the maps over space."""
        return self.fc(self.dropout(features_ND))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.maps(x).mean(dim=(2, 3)))


def _initialise(module: nn.Module) -> None:
    """Kaiming for what a ReLU follows (He et al. 2015); the rest as PyTorch does."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
