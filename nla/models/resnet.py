"""ResNet-18 and -34 with torchvision's key names, so that any checkpoint in that format fits.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
Beyond the original: `width` channels in the first stage, stems for images of 48 to 112 pixels, and a cosine head.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
STAGES = ("layer1", "layer2", "layer3", "layer4")
COSINE_SCALE = 30.0  # of LDAM's public code; cosines alone, at most 1, would keep softmax from ever being sure


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: x -> relu(f(x) + shortcut(x))."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


def _stem(kind: str, channels_in: int, width: int) -> tuple[nn.Conv2d, nn.Module]:
    """The first convolution, and the pooling behind it."""
    if kind == "imagenet":  # 224 px -> 56
        return nn.Conv2d(channels_in, width, 7, 2, padding=3, bias=False), nn.MaxPool2d(3, 2, padding=1)
    stride = 2 if kind == "stride2" else 1  # 48 px -> 24, or 48
    return nn.Conv2d(channels_in, width, 3, stride, padding=1, bias=False), nn.Identity()


class CosineLinear(nn.Linear):
    """Features [N, D] -> COSINE_SCALE * cos(feature, weight of the class), [N, num_classes]; it has no bias."""

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__(features, num_classes, bias=False)
        nn.init.normal_(self.weight)  # all directions alike; lengths do not matter

    def forward(self, features_ND: Tensor) -> Tensor:
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
        self.conv1, self.maxpool = _stem(stem, channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        incoming = width
        for i, (stage, depth) in enumerate(zip(STAGES, BLOCKS[name], strict=True)):
            outgoing = width * 2**i
            strides = [1 if i == 0 else 2] + [1] * (depth - 1)
            channels_in = [incoming] + [outgoing] * (depth - 1)
            blocks = [BasicBlock(c, outgoing, s) for c, s in zip(channels_in, strides, strict=True)]
            self.add_module(stage, nn.Sequential(*blocks))
            incoming = outgoing
        self.dropout = nn.Dropout(dropout)
        self.fc = HEADS[head](incoming, num_classes)
        self.apply(_initialise)

    def maps(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] -> what the last stage sees, [N, D, h, w] with D = 8 width."""
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
