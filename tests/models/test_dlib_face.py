"""dlib's network as one to train: sizes, colours, statistics, resuming, files, attention maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dlib_writer import face_network, write
from training_parts import SINGLE, MakeSamples, Stop, StopAt, checkpoint_of, content, make_job

from nla.config.base import section
from nla.config.model import ModelConfig
from nla.errors import ConfigError
from nla.evaluation.grad_cam import attention
from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.models.saved_model import load_model, save_model
from nla.training.checkpoint_store import FolderStore
from nla.training.job import Job, with_first_weights
from nla.training.trainer import Split, Trainer

SIDE = 56
"""Nearly the smallest: one cell is left."""


def classifier(side: int | None = SIDE, size: int = 16, channels: int = 1) -> Classifier:
    torch.manual_seed(0)
    image = ImageSpec(size, channels, (0.4,) * channels, (0.25,) * channels)
    return Classifier(Architecture("dlib_face", 16, "stride2", 0.0, 3, input_size=side), image).eval()


def images(size: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, size, size, channels), np.uint8)


@pytest.mark.parametrize(
    ("given", "side"),
    [
        ({}, 150),
        ({"input_size": 100}, 100),
        ({"name": "resnet18"}, None),
        ({"name": "timm/vit", "input_size": 224}, 224),
    ],
)
def test_the_input_size_is_the_one_set_or_the_networks_own(given: dict[str, Any], side: int | None) -> None:
    config = section(ModelConfig, {"model": {"name": "dlib_face"} | given})
    assert Architecture.of(config, 3).input_size == side


def test_a_size_that_leaves_no_cell_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"input_size=54 is too small for dlib_face, which needs at least 55"):
        section(ModelConfig, {"model": {"name": "dlib_face", "input_size": 54}})
    with pytest.raises(
        ConfigError, match=r"^model\.input_size: dlib_face needs at least 55 pixels \(got 48\)\. Set it"
    ):
        classifier(side=None, size=48)
    with torch.no_grad():
        assert classifier(side=55).maps(torch.from_numpy(images(16))).shape == (4, 256, 1, 1)


def test_grey_is_the_same_as_three_equal_channels() -> None:
    """Of any statistics: the network replaces them by its own."""
    grey, colour = classifier(), classifier(channels=3)
    colour.backbone.load_state_dict(grey.backbone.state_dict())
    with torch.no_grad():
        one = grey(torch.from_numpy(images(16)))
        three = colour(torch.from_numpy(images(16).repeat(3, axis=3)))
    torch.testing.assert_close(one, three, rtol=1e-5, atol=1e-5)


def test_images_enter_as_dlib_normalises_them() -> None:
    model, x = classifier(side=None, size=SIDE, channels=3), images(SIDE, 3)
    entered: list[torch.Tensor] = []
    model.backbone.get_submodule("conv1").register_forward_hook(
        lambda module, inputs, output: entered.append(inputs[0])
    )
    model(torch.from_numpy(x))
    expected = (x.astype(np.float64) - [122.782, 117.001, 104.298]) / 256
    np.testing.assert_allclose(entered[0].permute(0, 2, 3, 1), expected, atol=1e-6)


@pytest.fixture(scope="module")
def face_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("weights") / "face.dat", face_network())


@pytest.fixture
def split(tiny_samples: MakeSamples) -> Split:
    return Split(tiny_samples(40), tiny_samples(16, seed=1))


def job(face_file: Path, split: Split) -> Job:
    model = {"name": "dlib_face", "input_size": SIDE, "weights": face_file.name, "dropout": 0.2}
    start = make_job(model=model, recipe="affine", epochs=2, batch_size=20, optimizer="adamw", lr=1e-3)
    return with_first_weights(start, split.train.images_NHWC, face_file.parent)[0]


@pytest.mark.thorough
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, face_file: Path, split: Split) -> None:
    """The file is read and the statistics are estimated again in between."""
    finished = {}
    for name in ("whole", "stopped"):
        store = FolderStore(tmp_path / name)
        if name == "stopped":
            with pytest.raises(Stop):
                Trainer(job(face_file, split), split, SINGLE, store, [StopAt(1)]).fit()
        Trainer(job(face_file, split), split, SINGLE, store).fit()
        finished[name] = content(checkpoint_of(tmp_path / name))
    assert finished["whole"] == finished["stopped"]
    assert finished["whole"]["facts"]["first_weights"]["calibration_images"] == 40


def test_training_begins_where_the_file_is(face_file: Path, split: Split) -> None:
    """In the mean over its batch, a network in training mode computes nearly what it does in evaluation."""
    trainer = Trainer(job(face_file, split), split, SINGLE, FolderStore(Path("unused")))
    x = torch.from_numpy(split.train.images_NHWC)
    network = trainer.network
    with torch.no_grad():
        still, moving = network.eval().maps(x), network.train().maps(x)
    torch.testing.assert_close(moving, still, rtol=1e-3, atol=1e-3 * float(still.max()))


def test_a_saved_model_needs_neither_the_file_nor_the_package(tmp_path: Path) -> None:
    model = classifier()
    card = {"source": "tiny", "classes": ["a", "b", "c"], "fingerprint": "f0", "epoch": 1}
    save_model(tmp_path / "model.safetensors", model.backbone.state_dict(), {**model.describe(), **card})
    again, _ = load_model(tmp_path / "model.safetensors")
    assert again.architecture == model.architecture
    with torch.no_grad():
        assert torch.equal(again(torch.from_numpy(images(16))), model(torch.from_numpy(images(16))))


def test_attention_is_in_the_pixels_of_the_image() -> None:
    """Cell i of the 4 x 4 of 150 px is on pixel 33 + 32 i, which is (33.5 + 32 i) / 150 of the image."""
    model = classifier(side=None, size=150)
    with torch.no_grad():
        model.feature_backbone.fc.weight.abs_()
    sharp = attention(model, images(150), np.zeros(4, np.int64))
    maps = model.maps(torch.from_numpy(images(150))).detach()
    heat = torch.einsum("ndhw,d->nhw", maps, model.feature_backbone.fc.weight[0].detach()).relu()
    heat = (heat / heat.amax((1, 2), keepdim=True)).numpy()
    np.testing.assert_allclose(sharp[:, 33::32, 33::32], heat, atol=1e-4)
    assert (sharp[:, :34, 40] == sharp[:, :1, 40]).all(), "constant before the first cell"
    small = classifier(side=150, size=50)
    small.backbone.load_state_dict(model.backbone.state_dict())
    blocks = images(50)
    heat_small = attention(small, blocks, np.zeros(4, np.int64))
    large = torch.nn.functional.interpolate(
        torch.from_numpy(blocks).permute(0, 3, 1, 2).float(), (150, 150), mode="bilinear"
    )
    heat_large = attention(model, large.permute(0, 2, 3, 1).numpy(), np.zeros(4, np.int64))
    np.testing.assert_allclose(heat_small, heat_large[:, 1::3, 1::3], atol=1e-4)
