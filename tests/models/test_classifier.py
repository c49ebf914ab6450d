from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nla.errors import ConfigError
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


def test_floats_are_normalised_as_bytes_are() -> None:
    model = Classifier(TINY, COLOUR)
    torch.testing.assert_close(model.normalise(images().float()), model.normalise(images()), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_images_have_the_memory_format_of_the_weights(
    channels: int, memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    """A convolution goes by the strides of both: with one channel too, where either format counts as contiguous."""
    model = Classifier(TINY, ImageSpec(16, channels, (0.4,) * channels, (0.2,) * channels))
    model.set_memory_format(memory_format)
    seen: list[torch.Tensor] = []
    for name in ("conv1", "layer1"):
        model.backbone.get_submodule(name).register_forward_hook(lambda _, args, out: seen.extend([args[0], out]))
    model(images(channels=channels).to(dtype), mirrored=True)
    assert model.get_parameter("backbone.layer1.0.conv1.weight").is_contiguous(memory_format=memory_format)
    for x in seen:
        assert x.stride() == torch.empty(x.shape).to(memory_format=memory_format).stride() or x.shape[1] == 1
        assert (x.stride(1) == 1) == (memory_format == torch.channels_last)


def test_mirrors_follow_the_images() -> None:
    torch.manual_seed(0)
    model = Classifier(TINY, COLOUR).eval()
    both = model(images(), mirrored=True)
    torch.testing.assert_close(both[:4], model(images()))
    torch.testing.assert_close(both[4:], model(images().flip(2)))
    assert not torch.allclose(both[:4], both[4:])


def test_the_state_is_only_the_backbones() -> None:
    model = Classifier(TINY, COLOUR)
    assert set(model.state_dict()) == {f"backbone.{name}" for name in model.backbone.state_dict()}


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_built_again_from_its_description(head: str) -> None:
    torch.manual_seed(0)
    model = Classifier(replace(TINY, head=head), COLOUR).eval()
    again = Classifier.build(json.loads(json.dumps(model.describe()))).eval()
    assert (again.architecture, again.image) == (replace(TINY, head=head), COLOUR)
    again.backbone.load_state_dict(model.backbone.state_dict())
    torch.testing.assert_close(again(images()), model(images()), rtol=0, atol=0)


def test_a_description_from_before_heads_had_names_is_of_a_linear_one() -> None:
    description = Classifier(TINY, COLOUR).describe()
    del description["architecture"]["head"]
    assert Classifier.build(description).architecture == TINY


@pytest.mark.parametrize(("channels", "color"), [(1, "grey"), (3, "rgb")])
def test_color_is_named_as_images_are_fitted(channels: int, color: str) -> None:
    assert ImageSpec(16, channels, (0.5,) * channels, (0.2,) * channels).color == color


TIMM = Architecture("timm/resnet10t", 4, "stride2", 0.0, 3)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("raise ImportError('no timm')", r"pip install -e \.\[timm\]"),
        # What torchvision raises beside a build of torch that it was not made for.
        ("raise RuntimeError('operator torchvision::nms does not exist')", "operator torchvision::nms"),
        (
            "def create_model(name, **options): raise RuntimeError(f'Unknown model ({name})')",
            r"Unknown model \(resnet10t",
        ),
    ],
)
def test_errors_of_timm_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, message: str
) -> None:
    (tmp_path / "timm.py").write_text(module + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(ConfigError, match=rf"model\.name: .*timm/resnet10t.*{message}"):
        Classifier(TIMM, COLOUR)
    sys.modules.pop("timm", None)


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
def test_a_missing_timm_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"needs timm \(No module named 'timm'\)\. Run `pip install -e \.\[timm\]`"):
        Classifier(TIMM, COLOUR)


@pytest.mark.parametrize("takes", ["num_classes, in_chans, drop_rate, img_size", "num_classes, in_chans, drop_rate"])
def test_timm_gets_the_size_if_it_takes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: str) -> None:
    (tmp_path / "timm.py").write_text(
        f"import torch\ndef create_model(name, *, {takes}):\n"
        "    net = torch.nn.Flatten()\n    net.given = dict(locals())\n    return net\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    given = Classifier(TIMM, COLOUR).backbone.given
    assert given.get("img_size") == (16 if "img_size" in takes else None)
    assert (given["name"], given["num_classes"], given["in_chans"], given["drop_rate"]) == ("resnet10t", 3, 3, 0.0)
    sys.modules.pop("timm", None)
