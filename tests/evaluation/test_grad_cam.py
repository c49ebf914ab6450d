"""Where a network looks: against the class activation map by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nla.errors import ConfigError
from nla.evaluation.grad_cam import attention
from nla.models.classifier import Architecture, Classifier, ImageSpec

IMAGE = ImageSpec(32, 1, (0.5,), (0.25,))


def network(head: str = "linear", name: str = "resnet18") -> Classifier:
    torch.manual_seed(0)
    return Classifier(Architecture(name, 4, "stride1", 0.5, 3, head), IMAGE)


def images(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 32, 32, 1), np.uint8)


def test_with_a_linear_head_it_is_the_class_activation_map() -> None:
    model, pixels, class_N = network(), images(5), np.array([0, 1, 2, 2, 0])
    heat_NHW = attention(model, pixels, class_N)
    model.eval()
    with torch.no_grad():
        maps_NDhw = model.maps(torch.from_numpy(pixels)).numpy()
    weight_CD = model.feature_backbone.fc.weight.detach().numpy()
    for n, c in enumerate(class_N):
        plain = np.maximum(sum(weight_CD[c, d] * maps_NDhw[n, d] for d in range(len(weight_CD[c]))), 0)
        plain = plain / plain.max() if plain.max() > 0 else plain
        np.testing.assert_allclose(heat_NHW[n, ::8, ::8], plain, atol=1e-5)
        np.testing.assert_allclose(heat_NHW[n, 2, ::8], 0.75 * plain[0] + 0.25 * plain[1], atol=1e-5)
        np.testing.assert_allclose(heat_NHW[n, 24:, 28], np.full(8, plain[3, 3]), atol=1e-5)
    assert heat_NHW.shape == (5, 32, 32) and heat_NHW.any(axis=(1, 2)).any()


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_it_is_from_0_to_1_and_leaves_the_model_as_it_was(head: str) -> None:
    model = network(head)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    heat_NHW = attention(model, images(4), np.array([0, 1, 2, 0]))
    assert set(heat_NHW.max(axis=(1, 2)).round(5)) <= {0.0, 1.0} and heat_NHW.min() >= 0
    assert model.training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_what_speaks_against_a_class_is_no_heat() -> None:
    model = network()
    with torch.no_grad():
        model.feature_backbone.fc.weight.copy_(torch.stack([torch.full((32,), s) for s in (1.0, -1.0, 0.0)]))
    heat_NHW = attention(model, images(3), np.array([0, 1, 2]))
    assert heat_NHW[0].max() == 1 and not heat_NHW[1:].any()


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("stem", ["stride1", "stride2", "imagenet"])
def test_a_place_of_the_last_stage_looks_at_its_pixel(name: str, stem: str) -> None:
    """Windows reach as far to both sides, and a pixel more than three strides has a place of its own."""
    model = Classifier(Architecture(name, 2, stem, 0.0, 3), IMAGE).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.MaxPool2d):
            sizes = (module.kernel_size, module.padding)
            side, padding = (size if isinstance(size, int) else size[0] for size in sizes)
            assert 2 * int(padding) == side - 1
    stride = model.feature_backbone.stride
    with torch.no_grad():
        places = [model.maps(torch.zeros(1, pixels, pixels, 1)).shape[2] for pixels in (3 * stride, 3 * stride + 1)]
    assert places == [3, 4]


def test_a_network_without_feature_maps_is_refused() -> None:
    model = Classifier(Architecture("resnet18", 2, "stride2", 0.0, 3), IMAGE)
    model.architecture, model.backbone = replace(model.architecture, name="timm/resnet10t"), torch.nn.Linear(1, 1)
    with pytest.raises(
        ConfigError, match=r"^model\.name: .* feature maps \(got timm/resnet10t\)\. Use one of resnet18, "
    ):
        attention(model, images(1), np.array([0]))
