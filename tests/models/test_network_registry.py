"""What holds for every network of the registry: an added one is tested without a change here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nla.config.model import ModelConfig
from nla.config.network_catalog import NETWORKS
from nla.errors import ConfigError
from nla.models.base import Architecture, FeatureMapBackbone, ImageSpec
from nla.models.network_registry import BACKBONES, build_backbone

CLASSES = 3


def architecture(name: str, stem: str = "stride2", head: str = "linear") -> Architecture:
    network = NETWORKS[name]
    return Architecture(name, 4, stem if stem in network.stems else "", 0.0, CLASSES, head)


def side(name: str) -> int:
    return NETWORKS[name].input_size or 32


def image(name: str, channels: int = 1) -> ImageSpec:
    return ImageSpec(side(name), channels, (0.5,) * channels, (0.25,) * channels)


def images(name: str, channels: int = 1) -> Tensor:
    return torch.randn(2, channels, side(name), side(name), generator=torch.Generator().manual_seed(0))


VARIANTS = [
    pytest.param(architecture(name, stem, head), id=f"{name}-{stem or 'own stem'}-{head}")
    for name, network in NETWORKS.items()
    for stem in network.stems or ("",)
    for head in network.heads
]


def test_every_network_that_can_be_selected_can_be_built() -> None:
    assert tuple(NETWORKS) == tuple(BACKBONES)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_passes_the_check_of_its_section(name: str) -> None:
    assert ModelConfig(name=name).name == name


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_images_become_logits_that_every_parameter_changes(variant: Architecture, channels: int) -> None:
    torch.manual_seed(0)
    network = build_backbone(variant, image(variant.name, channels))
    logits_NC = network(images(variant.name, channels))
    assert logits_NC.shape == (2, CLASSES) and logits_NC.dtype == torch.float32
    (logits_NC * torch.randn(2, CLASSES)).sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize("name", NETWORKS)
def test_the_state_is_all_of_a_network(name: str) -> None:
    torch.manual_seed(0)
    first, second = (build_backbone(architecture(name), image(name)).eval() for _ in range(2))
    assert not torch.equal(first(images(name)), second(images(name)))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(images(name)), second(images(name)))


@pytest.mark.parametrize("name", NETWORKS)
def test_dropout_acts_only_in_training(name: str) -> None:
    network = build_backbone(replace(architecture(name), dropout=0.9), image(name)).eval()
    assert torch.equal(network(images(name)), network(images(name)))
    for module in network.modules():
        module.training = isinstance(module, torch.nn.Dropout)  # BatchNorm stays as it is
    assert not torch.equal(network(images(name)), network(images(name)))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_width_changes_the_size_of_a_network_that_has_one(name: str) -> None:
    small, large = (build_backbone(replace(architecture(name), width=width), image(name)) for width in (4, 8))
    sizes = [sum(p.numel() for p in network.parameters()) for network in (small, large)]
    assert (sizes[0] < sizes[1]) if NETWORKS[name].has_width else (sizes[0] == sizes[1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_feature_maps_are_offered_as_registered(variant: Architecture) -> None:
    network = build_backbone(variant, image(variant.name)).eval()
    assert isinstance(network, FeatureMapBackbone) == NETWORKS[variant.name].has_feature_maps
    if isinstance(network, FeatureMapBackbone):
        maps_NDhw = network.maps(images(variant.name))
        assert maps_NDhw.shape[1] == network.fc.in_features
        assert maps_NDhw.shape[2:] == (side(variant.name) // network.stride,) * 2
        torch.testing.assert_close(network.classify(maps_NDhw.mean(dim=(2, 3))), network(images(variant.name)))


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if "cosine" not in str(variant.id)])
def test_a_cell_is_centred_on_its_pixel(variant: Architecture) -> None:
    """The pixels that change a cell lie as far on both sides of its centre."""
    network = build_backbone(variant, image(variant.name)).eval()
    if not isinstance(network, FeatureMapBackbone):
        return
    wide = torch.randn(1, 1, 64, 1152, generator=torch.Generator().manual_seed(0)).requires_grad_()
    maps_NDhw = network.maps(wide)
    cell = maps_NDhw.shape[3] // 2
    maps_NDhw[0, :, 0, cell].sum().backward()
    assert wide.grad is not None
    seen = wide.grad[0, 0].any(dim=0).nonzero()
    first, last = int(seen.min()), int(seen.max())
    assert first > 0 and last < 1151
    assert (first + last) / 2 == network.offset + cell * network.stride


@pytest.mark.parametrize("name", ["resnet19", "xyz"])
def test_an_unknown_network_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.name: unknown network '{name}': (did you mean 'resnet|valid are)"):
        build_backbone(replace(architecture("resnet18"), name=name), image("resnet18"))
