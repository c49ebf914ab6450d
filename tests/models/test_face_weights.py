"""Weights of dlib's network: made-up ones layer by layer, and the published ones against known numbers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from dlib_writer import Writer, compute, face_network, small, write

from nla.errors import ConfigError, WeightsError
from nla.models import face_weights
from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.models.dlib_file import read_layers
from nla.models.face_weights import PACKAGE, packaged_file, read_face_weights
from nla.models.weights import start_from, weights_path

KNOWN = [
    [-0.128224, 0.082833, 0.030649, 0.003039, -0.088101, -0.056948],
    [-0.08377, 0.084314, 0.02795, 0.000145, -0.065787, -0.059595],
]
"""The first of 128 numbers for each of the two images of `faces(150, 3)`."""


def classifier(side: int, channels: int = 3, name: str = "dlib_face") -> Classifier:
    torch.manual_seed(0)
    image = ImageSpec(side, channels, (0.4, 0.5, 0.6)[:channels], (0.2, 0.3, 0.25)[:channels])
    return Classifier(Architecture(name, 16, "stride2", 0.0, 7), image).eval()


def faces(side: int, channels: int, n: int = 2) -> np.ndarray:
    """Smooth waves, and a little noise: what is random alone drives no deep layer."""
    rng = np.random.default_rng(0)
    y, x, c, i = np.meshgrid(*(np.arange(k) for k in (side, side, channels, n)), indexing="ij")
    waves = np.sin(x / 9 + i) + np.cos(y / (5 + c) - i)
    return np.clip(127 + 60 * waves + rng.normal(0, 5, waves.shape), 0, 255).astype(np.uint8).transpose(3, 0, 1, 2)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Writer, Path]:
    writer = face_network()
    return writer, write(tmp_path_factory.mktemp("weights") / "face.dat", writer)


def started(path: Path, side: int, channels: int) -> Classifier:
    model = classifier(side, channels)
    start = start_from(model, path)
    assert start.folded
    assert {name.split(".")[0] for name in start.skipped} == {"layer5", "fc"}
    result = model.backbone.load_state_dict(start.tensors, strict=False)
    kept = {name for name in result.missing_keys if not name.endswith("num_batches_tracked")}
    assert kept == {"fc.weight", "fc.bias"} and not result.unexpected_keys
    return model


@pytest.mark.parametrize(("side", "channels", "cells"), [(150, 3, 4), (150, 1, 4), (101, 3, 2), (56, 1, 1)])
def test_made_up_weights_compute_what_the_file_says(
    written: tuple[Writer, Path], side: int, channels: int, cells: int
) -> None:
    """With and without cells of the shortcut that the convolutions lack; grey is repeated to three channels."""
    writer, path = written
    images = faces(side, channels)
    fourth = writer.layers[:-10]  # without the fifth level, for which small images have too few cells
    expected = compute(fourth, images if channels == 3 else images.repeat(3, axis=3))[0]
    assert expected.shape[1:] == (256, cells, cells) and (expected > 0.1).any()
    with torch.no_grad():
        maps = started(path, side, channels).maps(torch.from_numpy(images))
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("short", r"layer 108 must be fc \(128, 256\) \(got no layer\)"),
        ("long", r"layer 109 must be no layer \(got relu\)"),
        ("small", r"layer 1 must be con \(32, 7, 7, 2, 2, 0, 0\) \(got con \(2, 3, 3, 1, 1, 1, 1\)\)"),
    ],
)
def test_another_network_is_refused(tmp_path: Path, written: tuple[Writer, Path], change: str, problem: str) -> None:
    writer, path = written
    if change == "small":
        path = write(tmp_path / "face.dat", small())
    else:
        longer = small().records[2]
        records = writer.records[:-1] if change == "short" else [*writer.records, longer]
        path = write(tmp_path / "face.dat", Writer(records=records))
    with pytest.raises(WeightsError, match=rf"is another network than dlib's for face recognition: {problem}"):
        read_face_weights(path)


def test_another_network_does_not_take_the_file(written: tuple[Writer, Path]) -> None:
    with pytest.raises(WeightsError, match=r"face\.dat does not fit Architecture\(name='resnet18'"):
        start_from(classifier(32, name="resnet18"), written[1])


def test_the_package_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that shape whose import fails, as that of the real one does without pkg_resources."""
    path = tmp_path / "some_face_models/models/dlib_face_recognition_resnet_model_v1.dat"
    path.parent.mkdir(parents=True)
    (tmp_path / "some_face_models/__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(face_weights, "PACKAGE", "some_face_models")
    with pytest.raises(ConfigError, match=r"the installed package has no file models/dlib.*\.dat \(got some_face"):
        packaged_file()
    path.write_bytes(b"")
    assert packaged_file() == path
    assert "some_face_models" not in sys.modules


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_weights, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(ConfigError) as raised:
        packaged_file()
    assert str(raised.value) == (
        "model.weights: the package is not installed (got no_such_package_of_weights). "
        "Run `pip install -e .[face-weights]`."
    )


def test_a_path_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "face.dat").write_bytes(b"x")
    assert weights_path("face.dat", tmp_path) == tmp_path / "face.dat"


@pytest.fixture(scope="module")
def published() -> Path:
    if importlib.util.find_spec(PACKAGE) is None:
        pytest.skip("needs the package face_recognition_models: pip install -e .[face-weights]")
    return weights_path(PACKAGE, Path())


def test_the_published_file_gives_the_known_numbers(published: Path) -> None:
    """KNOWN is from another reader and network, whose 128 numbers equal those of dlib to 4e-7."""
    numbers = compute([(x.kind, x.settings, x.arrays) for x in read_layers(published)], faces(150, 3))[1]
    torch.testing.assert_close(numbers[:, :6], torch.tensor(KNOWN), rtol=0, atol=1e-5)


def test_the_published_network_computes_what_its_file_says(published: Path) -> None:
    images = faces(150, 1)
    layers = [(x.kind, x.settings, x.arrays) for x in read_layers(published)]
    expected = compute(layers, images.repeat(3, axis=3))[0]
    with torch.no_grad():
        maps = started(published, 150, 1).maps(torch.from_numpy(images))
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-5 * float(expected.max()))
