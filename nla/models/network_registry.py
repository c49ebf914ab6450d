"""The registry of networks: `model.name` -> the function or class that builds the network.

What each network offers is in nla/config/network_catalog.py, under the same name. docs/networks.md shows how to add
one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from nla.config.base import nearest
from nla.config.network_catalog import NAMES, TIMM_PREFIX
from nla.errors import ConfigError
from nla.models.base import Architecture, ImageSpec
from nla.models.dlib_face import build_dlib_face
from nla.models.resnet import build_resnet
from nla.models.timm_backbone import build_timm

Build = Callable[[Architecture, ImageSpec], nn.Module]
"""Returns a network with new weights: float32 images [N, channels, H, W], normalised -> logits [N, num_classes]."""

BACKBONES: Mapping[str, Build] = {
    "resnet18": build_resnet,
    "resnet34": build_resnet,
    "resnet50": build_resnet,
    "dlib_face": build_dlib_face,
}


def build_backbone(architecture: Architecture, image: ImageSpec) -> nn.Module:
    """Builds the network of that name. Raises ConfigError if there is none, or timm cannot build it."""
    name = architecture.name
    if name.startswith(TIMM_PREFIX):
        return build_timm(architecture, image)
    if name not in BACKBONES:
        raise ConfigError(f"model.name: unknown network '{name}'{nearest(name, NAMES)}")
    return BACKBONES[name](architecture, image)
