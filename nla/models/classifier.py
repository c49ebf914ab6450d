"""The network with its input normalisation: uint8 images in, logits out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nla.config.network_catalog import offering
from nla.errors import ConfigError
from nla.models.base import Architecture, FeatureMapBackbone, ImageSpec, Network, describe
from nla.models.network_registry import build_backbone

__all__ = ["Architecture", "Classifier", "ImageSpec", "describe"]


class Classifier(Network):
    """uint8 [N, H, W, C], or floats in 0..255 -> logits [N, num_classes].

    Images are resized to the network's input size here, on its device: the loader moves and augments the smaller ones.
    Model files hold the state dict of `backbone`; the mean and the standard deviation are in the card, as part of
    `image`.
    """

    mean: Tensor
    std: Tensor

    architecture: Architecture

    def __init__(self, architecture: Architecture, image: ImageSpec) -> None:
        super().__init__()
        self.architecture, self.image = architecture, image
        self.memory_format = torch.channels_last
        self.backbone = build_backbone(architecture, image)
        # The factor 255 is folded in: (x / 255 - mean) / std = (x - 255 mean) / (255 std)
        self.register_buffer("mean", torch.tensor(image.mean).view(1, -1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(image.std).view(1, -1, 1, 1) * 255, persistent=False)

    def set_memory_format(self, memory_format: torch.memory_format) -> Classifier:
        """Sets the format of weights and images: PyTorch picks channels-last kernels from the input's strides."""
        self.memory_format = memory_format
        return self.to(memory_format=memory_format)  # type: ignore[call-overload, no-any-return]

    def normalise(self, images_NHWC: Tensor) -> Tensor:
        """Returns uint8 [N, H, W, C], or floats in 0..255, as float32 [N, C, H, W] in the current memory format.

        Normalised, and resized to [N, C, input_size, input_size] if the architecture has an input size.
        """
        x = images_NHWC.permute(0, 3, 1, 2).to(torch.float32, memory_format=self.memory_format)
        side = self.architecture.input_size
        if side is not None and x.shape[2:] != (side, side):
            x = F.interpolate(x, (side, side), mode="bilinear", antialias=side < x.shape[2])
        return (x - self.mean) / self.std

    def forward(self, images_NHWC: Tensor, mirrored: bool = False) -> Tensor:
        """Returns logits; with `mirrored`, [2 N, num_classes]: those for the images, then for their mirror images.

        Both views go through the network as one batch, which is faster than two passes, and BatchNorm sees both.
        """
        logits: Tensor = self.backbone(self._views(images_NHWC, mirrored))
        return logits

    def maps(self, images_NHWC: Tensor, mirrored: bool = False) -> Tensor:
        """Returns the last feature maps, [N, D, h, w]; with `mirrored`, [2 N, D, h, w]."""
        return self.feature_backbone.maps(self._views(images_NHWC, mirrored))

    @property
    def feature_backbone(self) -> FeatureMapBackbone:
        """The backbone, if it has feature maps. Raises ConfigError otherwise."""
        if not isinstance(self.backbone, FeatureMapBackbone):
            raise ConfigError(
                f"model.name: the network has no feature maps (got {self.architecture.name}). "
                f"Use one of {', '.join(offering('has_feature_maps'))}."
            )
        return self.backbone

    def _views(self, images_NHWC: Tensor, mirrored: bool) -> Tensor:
        x = self.normalise(images_NHWC)
        return torch.cat([x, x.flip(-1)]) if mirrored else x

    def describe(self) -> dict[str, Any]:
        """Returns a JSON-serializable description for `Classifier.build`."""
        return describe(self.architecture, self.image)

    @classmethod
    def build(cls, description: Mapping[str, Any]) -> Classifier:
        """Builds a classifier from the result of `describe`, randomly initialised."""
        image = description["image"]
        spec = ImageSpec(image["size"], image["channels"], tuple(image["mean"]), tuple(image["std"]))
        return cls(Architecture(**description["architecture"]), spec)
