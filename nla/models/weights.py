"""Initial weights from a local file in any common format, such as networks pretrained on faces.

Supported: .safetensors; .pth/.pt read with weights_only (no pickle is executed); dlib's face recognition network, .dat
(nla/models/face_weights.py). In the first two, a state dict at the top level or under `state_dict`, `model_state_dict`,
`model` or `net`; the prefix `module.`, `backbone.` or `model.` on most names (the others can be those of a face
recogniser's head, saved beside the network). The last layer is used only if its shape matches.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nla.config.network_catalog import find_network
from nla.errors import WeightsError
from nla.io import regular, sha256
from nla.models.classifier import Classifier
from nla.models.face_weights import PACKAGE, SUFFIX, packaged_file, read_face_weights
from nla.models.file_content import TENSORS_ONLY, pickled_class, problem_of
from nla.models.saved_model import read_tensors

CONTAINERS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "backbone.", "model.")
PICKLE = b"\x80"  # the opcode PROTO
PICKLE_BYTES = 1 << 24
"""Larger files that PyTorch cannot read are not searched for the name of a class."""
UNSAFE_GLOBAL = re.compile(r"GLOBAL (\S+)")  # in the message of torch.load


@dataclass(frozen=True)
class Start:
    """Initial weights and their origin."""

    path: str
    sha256: str
    tensors: Mapping[str, Tensor]
    """Tensors from the file that the network uses, by the names of its backbone."""
    skipped: tuple[str, ...]
    """Tensors of the file that the network does not use, including classifier layers of another shape."""
    folded: bool
    """Whether batch norms lack statistics, as in dlib's file: see nla/models/recalibration.py."""


def start_from(model: Classifier, path: Path) -> Start:
    """Reads initial weights for the model's backbone from `path`; the model is not changed.

    A convolution for colour images is summed over its input channels if the network takes grey images.

    Raises:
        WeightsError: the file is missing, unreadable, or lacks layers of the network.
    """
    given = _unwrap(_read(existing(path)), path)
    expected = model.backbone.state_dict()
    found = _fit_channels(_strip(given), expected)
    head = {name for name in expected if name.split(".")[0] in ("fc", "head", "classifier")}
    fitting = {n: t for n, t in found.items() if n in expected and t.shape == expected[n].shape}
    missing = [
        name
        for name in expected
        if name not in fitting and name not in head and not name.endswith("num_batches_tracked")
    ]
    if len(found.keys() & expected.keys()) < min(len(found), len(expected)) / 2:
        unnamed = (name for name in missing if name not in found)
        raise WeightsError(
            f"model.weights: {path} has other tensor names than {model.architecture.name}: expected {_some(unnamed)} "
            f"(got {_some(given)}). Rename its tensors, or set model.name to its network."
        )
    if missing:
        network = find_network(model.architecture.name)
        keys = "model.name, width and stem" if network and network.has_width else "model.name"
        raise WeightsError(
            f"model.weights: {path} does not fit {model.architecture}: {len(missing)} of {len(expected)} tensors are "
            f"missing or have another shape, the first is {_misfit(missing[0], found, expected)}. "
            f"Set {keys} to those of the file."
        )
    unused = tuple(sorted(found.keys() - fitting.keys()))
    return Start(str(path), sha256(path), fitting, unused, folded=path.suffix == SUFFIX)


def weights_path(weights: str, root: Path) -> Path:
    """The file that `model.weights` names: a path relative to `root`, or a package that is installed.

    Raises:
        WeightsError: it is not a file.
        ConfigError: the package is not installed.
        OSError: it is a pipe or a device.
    """
    return packaged_file() if weights == PACKAGE else existing(root / weights)


def existing(path: Path) -> Path:
    """Returns `path`. Raises WeightsError if it is not a file, OSError if it is a pipe or a device."""
    if regular(path).is_file():
        return path
    problem = "is a folder" if path.is_dir() else "file not found" if path.parent.is_dir() else "folder not found"
    raise WeightsError(f"model.weights: {problem} (got {path}). Give a local file, or null to train from scratch.")


def _read(path: Path) -> Mapping[str, Any]:
    if problem := problem_of(path):
        raise WeightsError(f"model.weights: {path} {problem}")
    if path.suffix == SUFFIX:
        return read_face_weights(path)
    if path.suffix == ".safetensors":
        return read_tensors(path, "Download model.weights again.")
    try:
        content: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content
    except Exception as error:  # the unpickler can raise anything: IndexError, KeyError, struct.error ...
        raise WeightsError(f"model.weights: {path} {_why_unreadable(path, str(error))}") from None


def _why_unreadable(path: Path, error: str) -> str:
    """Problem and next action. PyTorch's own text would recommend to load the file unsafely."""
    ask = "Get them from their author as .safetensors, or as a .pth with only a state dict."
    if "TorchScript" in error:
        return f"is a TorchScript program, {TENSORS_ONLY} {ask}"
    content = path.read_bytes() if path.stat().st_size < PICKLE_BYTES else b""
    found = UNSAFE_GLOBAL.search(error)
    if name := found[1].rstrip(".") if found else pickled_class(content):
        return f"holds the Python object {name}, {TENSORS_ONLY} {ask}"
    with path.open("rb") as file:
        pickled = file.read(1) == PICKLE
    if pickled:
        return f"is a pickle, which is not loaded: it could run code, or it is cut off. Only tensors are read. {ask}"
    return "cannot be read: it is damaged, or not in PyTorch's format. Download it again."


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    for key in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise WeightsError(
            f"model.weights: {path} has no state dict at the top or under {', '.join(CONTAINERS)}. Save one there."
        )
    return tensors


def _strip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Removes prefixes that most names have; if two names are then equal, the one that had the prefix is used."""
    while prefix := next((p for p in PREFIXES if sum(n.startswith(p) for n in tensors) > len(tensors) / 2), None):
        beside = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
        inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        tensors = beside | inside
    return tensors


def _some(names: Iterable[str]) -> str:
    """Returns the first few of `names`, for a message."""
    return ", ".join(itertools.islice(names, 3)) + " ..."


def _misfit(name: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    wanted = list(expected[name].shape)
    return f"{name}, {list(found[name].shape)} instead of {wanted}" if name in found else f"{name} {wanted}"


def _fit_channels(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sums colour convolutions over channels for grey input: a grey image has the same value in all three channels."""
    return {n: _summed(t, expected[n].shape) if n in expected else t for n, t in tensors.items()}


def _summed(tensor: Tensor, wanted: torch.Size) -> Tensor:
    is_color = tensor.ndim == 4 and tensor.shape[1] == 3 and wanted == (len(tensor), 1, *tensor.shape[2:])
    return tensor.sum(dim=1, keepdim=True) if is_color else tensor
