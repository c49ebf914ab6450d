from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nla.errors import WeightsError
from nla.models.classifier import Architecture, Classifier, ImageSpec

TINY = Architecture("resnet18", 4, "stride2", 0.0, 3)
COLOUR = ImageSpec(16, 3, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


def images(n: int = 4, side: int = 16, channels: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, side, side, channels), dtype=np.uint8))


def test_pixels_are_normalised_a_channel() -> None:
    x = images()
    expected = (x.numpy() / 255 - np.array(COLOUR.mean)) / np.array(COLOUR.std)
    result = Classifier(TINY, COLOUR).normalise(x)
    np.testing.assert_allclose(result, expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5)
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_mirrors_follow_the_images() -> None:
    torch.manual_seed(0)
    model = Classifier(TINY, COLOUR).eval()
    both = model(images(), mirrored=True)
    torch.testing.assert_close(both[:4], model(images()))
    torch.testing.assert_close(both[4:], model(images().flip(2)))
    assert not torch.allclose(both[:4], both[4:])


def test_the_state_is_the_backbones_alone() -> None:
    model = Classifier(TINY, COLOUR)
    assert set(model.state_dict()) == {f"backbone.{name}" for name in model.backbone.state_dict()}


def test_built_again_from_its_description() -> None:
    torch.manual_seed(0)
    model = Classifier(TINY, COLOUR).eval()
    again = Classifier.build(json.loads(json.dumps(model.describe()))).eval()
    assert (again.architecture, again.image) == (TINY, COLOUR)
    again.backbone.load_state_dict(model.backbone.state_dict())
    torch.testing.assert_close(again(images()), model(images()), rtol=0, atol=0)


@pytest.mark.parametrize(("channels", "color"), [(1, "grey"), (3, "rgb")])
def test_color_is_named_as_images_are_fitted(channels: int, color: str) -> None:
    assert ImageSpec(16, channels, (0.5,) * channels, (0.2,) * channels).color == color


TIMM = Architecture("timm/resnet10t", 4, "stride2", 0.0, 3)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("raise ImportError('no timm')", "pip install timm"),
        # What torchvision raises beside a build of torch that it was not made for.
        ("raise RuntimeError('operator torchvision::nms does not exist')", "operator torchvision::nms"),
        (
            "def create_model(name, **options): raise RuntimeError(f'Unknown model ({name})')",
            r"Unknown model \(resnet10t",
        ),
    ],
)
def test_trouble_with_timm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, message: str) -> None:
    (tmp_path / "timm.py").write_text(module + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(WeightsError, match=rf"model\.name timm/resnet10t.*{message}"):
        Classifier(TIMM, COLOUR)
    sys.modules.pop("timm", None)
