"""Any network of timm (https://timm.fast.ai), which is an optional requirement."""

from __future__ import annotations

from torch import nn

from nla.config.network_catalog import TIMM_PREFIX
from nla.errors import ConfigError
from nla.models.base import Architecture, ImageSpec


def build_timm(architecture: Architecture, image: ImageSpec) -> nn.Module:
    """Builds the network that timm knows by the name after the prefix.

    Raises:
        ConfigError: timm is not installed, or cannot build it.
    """
    name = architecture.name
    try:
        return _create(name.removeprefix(TIMM_PREFIX), architecture, image)
    except ImportError as error:
        raise ConfigError(f"model.name: {name} needs timm ({error}). Run `pip install -e .[timm]`.") from None
    except RuntimeError as error:  # a name unknown to timm, or a torchvision that does not match this torch
        raise ConfigError(f"model.name: timm cannot build {name} ({error}). See timm.list_models().") from None


def _create(name: str, architecture: Architecture, image: ImageSpec) -> nn.Module:
    import timm

    options = {
        "num_classes": architecture.num_classes,
        "in_chans": image.channels,
        "drop_rate": architecture.dropout,
    }
    network: nn.Module
    try:
        network = timm.create_model(name, img_size=architecture.input_side(image), **options)
    except TypeError:  # convolutional networks take images of any size, and do not have this option
        network = timm.create_model(name, **options)
    return network
