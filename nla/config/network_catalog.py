"""The networks that `model.name` can select, and what each offers.

Reading params.yaml checks names and options against this table, without importing PyTorch. The code that builds each
network is registered under the same name in nla/models/network_registry.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """What a network offers."""

    has_width: bool = False
    """Whether `model.width` sets its size; other networks ignore that key."""
    stems: tuple[str, ...] = ()
    """Choices of `model.stem`; networks without any ignore that key."""
    heads: tuple[str, ...] = ("linear",)
    """Choices of `model.head`."""
    has_feature_maps: bool = False
    """Whether it is a FeatureMapBackbone of nla/models/base.py, as some methods and Grad-CAM require."""
    input_size: int | None = None
    """Side to which images are resized if `model.input_size` is null, in pixels; None: they stay as they are."""
    smallest_input: int = 1
    """Side of the smallest images that it takes, in pixels."""


RESNET = Network(
    has_width=True, stems=("imagenet", "stride2", "stride1"), heads=("linear", "cosine"), has_feature_maps=True
)
NETWORKS: Mapping[str, Network] = {
    "resnet18": RESNET,
    "resnet34": RESNET,
    "resnet50": RESNET,
    "dlib_face": Network(has_feature_maps=True, input_size=150, smallest_input=55),
}

TIMM = Network()
TIMM_PREFIX = "timm/"
"""Before the name of any network of timm."""
NAMES = (*NETWORKS, f"{TIMM_PREFIX}NAME")
"""Valid names, for messages."""


def find_network(name: str) -> Network | None:
    """What the network of that name offers; None if there is none."""
    return TIMM if name.startswith(TIMM_PREFIX) else NETWORKS.get(name)


def offering(capability: str) -> list[str]:
    """Names of the networks for which the field `capability` of Network is true."""
    return [name for name, network in NETWORKS.items() if getattr(network, capability)]
