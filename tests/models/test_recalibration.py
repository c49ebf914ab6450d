"""Statistics for folded batch norms: the function stays, and training begins where evaluation is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.models.recalibration import IMAGES, calibration_images, recalibrated

State = dict[str, torch.Tensor]


def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(Architecture("resnet18", 4, "stride2", 0.0, 3), ImageSpec(32, 1, (0.5,), (0.25,)))


def folded() -> State:
    """The tensors of a network with batch norms as a file holds them, except for the head."""
    model, generator = classifier(), torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.3, generator=generator)
            assert module.running_mean is not None
            nn.init.normal_(module.running_mean, 0, 0.3, generator=generator)
    return {name: tensor for name, tensor in model.backbone.state_dict().items() if not name.startswith("fc.")}


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 1), np.uint8)


def filled(tensors: State) -> Classifier:
    model = classifier()
    model.backbone.load_state_dict(tensors, strict=False)
    return model


def test_evaluation_stays_and_training_begins_there() -> None:
    before = folded()
    after = recalibrated(classifier(), before, images(48))
    assert after.keys() == before.keys()
    seen = torch.from_numpy(images(48))
    old, new = filled(before), filled(after)
    with torch.no_grad():
        assert not torch.allclose(old.train()(seen), filled(before).eval()(seen), atol=0.1)
        torch.testing.assert_close(
            new.eval()(torch.from_numpy(images(8, 1))), filled(before).eval()(torch.from_numpy(images(8, 1)))
        )
        torch.testing.assert_close(new.train()(seen), filled(before).eval()(seen), rtol=1e-4, atol=1e-4)


def test_the_statistics_are_those_of_the_images() -> None:
    """By the first layer, from its own definition."""
    before = folded()
    after = recalibrated(classifier(), before, images(40))
    model = filled(before)
    x = nn.functional.conv2d(model.normalise(torch.from_numpy(images(40))), before["conv1.weight"], stride=2, padding=1)
    torch.testing.assert_close(after["bn1.running_mean"], x.mean((0, 2, 3)))
    torch.testing.assert_close(after["bn1.running_var"], x.var((0, 2, 3), correction=0))
    assert torch.equal(after["conv1.weight"], before["conv1.weight"])


def test_a_channel_without_variance_stays_finite() -> None:
    before = folded()
    before["conv1.weight"][2] = 0
    after = recalibrated(classifier(), before, images(8))
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    x = torch.from_numpy(images(8))
    with torch.no_grad():
        torch.testing.assert_close(filled(after).eval()(x), filled(before).eval()(x))


def test_the_network_is_left_without_hooks() -> None:
    model = classifier()
    recalibrated(model, folded(), images(4))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("n", [5, IMAGES, IMAGES + 40])
def test_images_are_drawn_from_the_seed(n: int) -> None:
    given = np.arange(n, dtype=np.uint16).reshape(n, 1, 1, 1)
    one, again, other = (calibration_images(given, seed).ravel() for seed in (0, 0, 1))
    assert len(one) == min(n, IMAGES) and (np.diff(one.astype(int)) > 0).all()
    assert np.array_equal(one, again)
    assert np.array_equal(one, other) == (n <= IMAGES)
