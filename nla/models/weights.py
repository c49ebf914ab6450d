"""Initial weights from a local file in any common format, such as face-pretrained checkpoints.

Supported: .safetensors, and .pth/.pt read with weights_only (no pickle is executed); a state dict at the top level or
under `state_dict`, `model_state_dict`, `model` or `net`; the prefix `module.`, `backbone.` or `model.` on most names
(the others can be those of a face recogniser's head, saved beside the network).
The last linear layer is used only if its shape matches.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nla.config.model import RESNETS
from nla.errors import WeightsError
from nla.io import sha256
from nla.models.card import read_tensors
from nla.models.classifier import Classifier

CONTAINERS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "backbone.", "model.")


@dataclass(frozen=True)
class Start:
    """Initial weights and their origin."""

    path: str
    sha256: str
    tensors: Mapping[str, Tensor]
    """Tensors from the file that the network uses, by the names of its backbone."""
    skipped: tuple[str, ...]
    """Tensors of the file that the network does not use, including classifier layers of another shape."""


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
    lacking = [
        name
        for name in expected
        if name not in fitting and name not in head and not name.endswith("num_batches_tracked")
    ]
    if len(found.keys() & expected.keys()) < min(len(found), len(expected)) / 2:
        unnamed = (name for name in lacking if name not in found)
        raise WeightsError(
            f"model.weights: the names in {path} are not those of {model.architecture.name}: it has {_some(given)}, "
            f"and {_some(unnamed)} are wanted: save its tensors under these names"
        )
    if lacking:
        raise WeightsError(
            f"model.weights: {path} does not fit {model.architecture}: {len(lacking)} of {len(expected)} tensors are "
            f"missing or of another shape, the first is {_misfit(lacking[0], found, expected)}: set "
            f"{'model.name, width and stem' if model.architecture.name in RESNETS else 'model.name'} to the file's"
        )
    return Start(str(path), sha256(path), fitting, tuple(sorted(found.keys() - fitting.keys())))


def existing(path: Path) -> Path:
    """Returns `path`. Raises WeightsError if it is not a file."""
    if not path.is_file():
        raise WeightsError(f"model.weights: {path} is missing: give a local file, or null to start from scratch")
    return path


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler can raise anything: IndexError, KeyError, struct.error ...
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise WeightsError(
            f"model.weights: {path} cannot be read safely ({reason}): re-save it as a state dict"
        ) from None


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    for key in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise WeightsError(f"model.weights: {path} holds no state dict (looked under {', '.join(CONTAINERS)})")
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
    return f"{name}, {list(found[name].shape)} where {wanted} is wanted" if name in found else f"{name} {wanted}"


def _fit_channels(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sums colour convolutions over channels for grey input: a grey image has the same value in all three channels."""
    return {n: _summed(t, expected[n].shape) if n in expected else t for n, t in tensors.items()}


def _summed(tensor: Tensor, wanted: torch.Size) -> Tensor:
    of_colour = tensor.ndim == 4 and tensor.shape[1] == 3 and wanted == (len(tensor), 1, *tensor.shape[2:])
    return tensor.sum(dim=1, keepdim=True) if of_colour else tensor
