"""The network with its input normalisation: uint8 images in, logits out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nla.config.model import RESNETS, ModelConfig
from nla.errors import WeightsError
from nla.models.resnet import ResNet


@dataclass(frozen=True)
class ImageSpec:
    """The network's input: size in pixels, and mean and standard deviation per channel, for pixels in [0, 1]."""

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def color(self) -> Literal["grey", "rgb"]:
        """Name of the channel layout, as `nla.data.images.fit` takes it."""
        return "grey" if self.channels == 1 else "rgb"


@dataclass(frozen=True)
class Architecture:
    """Everything that is needed to build the network; saved with the weights."""

    name: str
    width: int
    stem: str
    dropout: float
    num_classes: int
    head: str = "linear"
    """Missing in cards that are older than this field, which means "linear"."""

    @classmethod
    def of(cls, config: ModelConfig, num_classes: int) -> Architecture:
        return cls(config.name, config.width, config.stem, config.dropout, num_classes, config.head)


class Classifier(nn.Module):
    """uint8 [N, H, W, C], or floats in 0..255 -> logits [N, num_classes]; the state dict is that of the backbone."""

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: Architecture, image: ImageSpec) -> None:
        super().__init__()
        self.architecture, self.image = architecture, image
        self.layout = torch.channels_last
        self.backbone = _backbone(architecture, image)
        # The factor 255 is folded in: (x / 255 - mean) / std = (x - 255 mean) / (255 std)
        self.register_buffer("mean", torch.tensor(image.mean).view(1, -1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(image.std).view(1, -1, 1, 1) * 255, persistent=False)

    def lay_out(self, layout: torch.memory_format) -> Classifier:
        """Sets the memory format of weights and images to `layout`; the images' strides select the kernels."""
        self.layout = layout
        return self.to(memory_format=layout)  # type: ignore[call-overload]

    def normalise(self, images_NHWC: Tensor) -> Tensor:
        """Normalises uint8 [N, H, W, C], or floats in 0..255, to float32 [N, C, H, W] in the format of `lay_out`."""
        x = images_NHWC.permute(0, 3, 1, 2).to(torch.float32, memory_format=self.layout)
        return (x - self.mean) / self.std

    def forward(self, images_NHWC: Tensor, mirrored: bool = False) -> Tensor:
        """Returns logits; with `mirrored`, those of the images, then of their mirror images, [2 N, num_classes].

        Both views go through the network as one batch, which is faster than two passes, and BatchNorm sees both.
        """
        return self.backbone(self._views(images_NHWC, mirrored))

    def maps(self, images_NHWC: Tensor, mirrored: bool = False) -> Tensor:
        """Returns the last stage's output of our ResNets, [N, D, h, w]; with `mirrored`, [2 N, D, h, w]."""
        return self.resnet.maps(self._views(images_NHWC, mirrored))

    @property
    def resnet(self) -> ResNet:
        """The backbone, if it is a ResNet of this package. Raises WeightsError for a timm network."""
        if not isinstance(self.backbone, ResNet):
            raise WeightsError(
                f"only a ResNet of {', '.join(RESNETS)} can be looked into, not {self.architecture.name}"
            )
        return self.backbone

    def _views(self, images_NHWC: Tensor, mirrored: bool) -> Tensor:
        x = self.normalise(images_NHWC)
        return torch.cat([x, x.flip(-1)]) if mirrored else x

    def describe(self) -> dict[str, Any]:
        """Returns a JSON-able description for `Classifier.build`."""
        return describe(self.architecture, self.image)

    @classmethod
    def build(cls, description: dict[str, Any]) -> Classifier:
        """Builds a classifier from the result of `describe`, with new weights."""
        image = description["image"]
        spec = ImageSpec(image["size"], image["channels"], tuple(image["mean"]), tuple(image["std"]))
        return cls(Architecture(**description["architecture"]), spec)


def describe(architecture: Architecture, image: ImageSpec) -> dict[str, Any]:
    """JSON-able description for `Classifier.build` of a network that need not be built."""
    return {"architecture": asdict(architecture), "image": asdict(image)}


def _backbone(architecture: Architecture, image: ImageSpec) -> nn.Module:
    of = architecture
    if of.name in RESNETS:
        size = {"channels": image.channels, "width": of.width}
        return ResNet(of.name, of.num_classes, **size, stem=of.stem, dropout=of.dropout, head=of.head)
    try:
        return _of_timm(of, image)
    except ImportError as error:
        raise WeightsError(f"model.name {of.name} needs timm ({error}): `pip install -e .[timm]`") from None
    except RuntimeError as error:  # a name unknown to timm, or a torchvision that does not fit this torch
        raise WeightsError(f"model.name {of.name}: timm cannot build it ({error}): see timm.list_models()") from None


def _of_timm(of: Architecture, image: ImageSpec) -> nn.Module:
    import timm

    name = of.name.removeprefix("timm/")
    options = {"num_classes": of.num_classes, "in_chans": image.channels, "drop_rate": of.dropout}
    try:
        return timm.create_model(name, img_size=image.size, **options)
    except TypeError:  # convolutional networks take images of any size, and do not have this option
        return timm.create_model(name, **options)
