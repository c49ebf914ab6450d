"""ResNet-18, -34 and -50 with torchvision's parameter names, so that checkpoints in its format can be loaded.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
Extensions: `width` channels after the stem, stems for images of 48 to 112 pixels, and a cosine head.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nla.models.base import Architecture, FeatureMapBackbone, ImageSpec

STAGES = ("layer1", "layer2", "layer3", "layer4")
COSINE_SCALE = 30.0  # from LDAM's public code; with plain cosines, at most 1, softmax could never be confident


def build_resnet(architecture: Architecture, image: ImageSpec) -> ResNet:
    """Builds the ResNet of that architecture, for images with that number of channels."""
    return ResNet(
        architecture.name,
        architecture.num_classes,
        channels=image.channels,
        width=architecture.width,
        stem=architecture.stem,
        dropout=architecture.dropout,
        head=architecture.head,
    )


def _convolution(side: int, channels_in: int, channels: int, stride: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Returns a convolution that changes the size only by its stride, and its normalisation."""
    convolution = nn.Conv2d(channels_in, channels, side, stride, padding=side // 2, bias=False)
    return convolution, nn.BatchNorm2d(channels)


def _downsample(channels_in: int, channels: int, stride: int) -> nn.Sequential | None:
    """Returns the shortcut if the shape changes, else None."""
    same = stride == 1 and channels_in == channels
    return None if same else nn.Sequential(*_convolution(1, channels_in, channels, stride))


class Block(nn.Module):
    """x -> relu(f(x) + shortcut(x)); the output has `expansion` * `channels` channels."""

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
        y: Tensor = self.bn2(self.conv2(x))
        return y


class Bottleneck(Block):
    """f is a 3x3 convolution of fewer channels between two of 1x1; the stride is on the 3x3, as in torchvision."""

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
        y: Tensor = self.bn3(self.conv3(x))
        return y


BLOCKS: dict[str, tuple[type[Block], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}
"""Block type, and number of blocks per stage."""


STEM_STRIDES = {"imagenet": 4, "stride2": 2, "stride1": 1}


def _stem(kind: str, channels_in: int, width: int) -> tuple[nn.Conv2d, nn.Module]:
    """Returns the first convolution and the pooling after it."""
    if kind == "imagenet":  # 224 px -> 56
        return nn.Conv2d(channels_in, width, 7, 2, padding=3, bias=False), nn.MaxPool2d(3, 2, padding=1)
    # 48 px -> 24, or 48
    return nn.Conv2d(channels_in, width, 3, STEM_STRIDES[kind], padding=1, bias=False), nn.Identity()


class CosineLinear(nn.Linear):
    """Features [N, D] -> COSINE_SCALE * cos(feature, class weight), [N, num_classes]; without bias."""

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__(features, num_classes, bias=False)
        nn.init.normal_(self.weight)  # isotropic directions; the length does not matter

    def forward(self, features_ND: Tensor) -> Tensor:
        with torch.autocast(features_ND.device.type, enabled=False):  # bfloat16 cannot distinguish close cosines
            return COSINE_SCALE * F.linear(F.normalize(features_ND.float()), F.normalize(self.weight))


HEADS: dict[str, type[nn.Linear]] = {"linear": nn.Linear, "cosine": CosineLinear}


class ResNet(FeatureMapBackbone):
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
        """[N, channels, H, W] -> output of the last stage, [N, D, h, w]; D = 8 width, or 32 width for ResNet-50."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        for stage in STAGES:
            x = self.get_submodule(stage)(x)
        return x


def _initialise(module: nn.Module) -> None:
    """Kaiming initialisation of convolutions (He et al. 2015); all other layers keep PyTorch's default."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
