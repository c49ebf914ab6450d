"""The rewritten network against the one that was trained."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nla.evaluation.predict import predict
from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.models.fused_resnet import fused
from nla.models.views import ONE_VIEW, Views


def trained(
    name: str = "resnet18", width: int = 8, stem: str = "stride2", size: int = 24, **options: Any
) -> Classifier:
    """A network whose BatchNorms have statistics, scales and shifts of their own."""
    channels, head, seed = options.get("channels", 1), options.get("head", "linear"), options.get("seed", 0)
    torch.manual_seed(seed)
    spec = ImageSpec(size, channels, (0.5,) * channels, (0.25,) * channels)
    model = Classifier(Architecture(name, width, stem, 0.3, 5, head), spec).train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.3, 0.3)
        for _ in range(3):
            model(torch.randint(0, 256, (16, size, size, channels), dtype=torch.uint8))
    return model.eval()


def faces(n: int, model: Classifier) -> np.ndarray:
    size, channels = model.image.size, model.image.channels
    return np.random.default_rng(n).integers(0, 256, (n, size, size, channels), np.uint8)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([("resnet18", 9), ("resnet34", 5), ("resnet50", 3)]),
    st.integers(1, 9),
    st.sampled_from(["imagenet", "stride1", "stride2"]),
    st.integers(16, 40),
    st.sampled_from([1, 3]),
    st.sampled_from(["linear", "cosine"]),
    st.integers(1, 4),
)
def test_every_resnet_answers_as_before(
    network: tuple[str, int], width: int, stem: str, size: int, channels: int, head: str, n: int
) -> None:
    model = trained(network[0], min(width, network[1]), stem, size, channels=channels, head=head, seed=n)
    faster, images = fused(model), faces(n, model)
    assert faster is not None, "the build of PyTorch that the tests use has the operators"
    expected, twice = predict(model, images, Views()), [predict(faster, images, Views()) for _ in range(2)]
    np.testing.assert_allclose(twice[0], expected, atol=2e-5)
    np.testing.assert_array_equal(*twice)  # what is overwritten inside is not the input


def test_answers_that_differ_stay_apart() -> None:
    model = trained()
    p_NC = predict(model, faces(20, model), ONE_VIEW)
    assert np.ptp(p_NC, axis=0).max() > 0.05, "answers alike would show nothing"
    faster = fused(model)
    assert faster is not None
    np.testing.assert_allclose(predict(faster, faces(20, model), ONE_VIEW), p_NC, atol=1e-5)
    assert np.abs(predict(faster, faces(20, model), Views()) - p_NC).max() > 1e-3


def test_the_network_itself_stays_as_it_is() -> None:
    model = trained()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()  # as that of `nla.fit` may be
    faster = fused(model)
    assert faster is not None and not faster.training
    predict(faster, faces(3, model), Views())
    assert model.training
    modal = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d | nn.Dropout)]
    assert all(module.training for module in modal)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_bfloat16_is_near_and_is_not_float32() -> None:
    model = trained(width=16, size=48)
    faster = fused(model, torch.bfloat16)
    if faster is None:
        assert not torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return
    images = faces(20, model)
    difference = np.abs(predict(faster, images, Views()) - predict(model, images, Views())).max()
    assert 1e-5 < difference < 0.05


def test_other_networks_have_no_faster_form() -> None:
    model = trained()
    model.backbone = nn.Sequential(nn.Flatten(), nn.Linear(24 * 24, 5))
    assert fused(model) is None


def test_several_threads_get_their_own_answers() -> None:
    model = trained()
    faster = fused(model)
    assert faster is not None
    batches = [faces(n, model) for n in range(1, 9)]
    found: dict[int, np.ndarray] = {}

    def work(i: int) -> None:
        for _ in range(10):
            found[i] = predict(faster, batches[i], Views())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, images in enumerate(batches):
        np.testing.assert_allclose(found[i], predict(model, images, Views()), atol=1e-5)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_another_device_keeps_its_network(precision: torch.dtype) -> None:
    assert fused(trained().to("meta"), precision) is None
