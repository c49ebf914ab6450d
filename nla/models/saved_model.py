"""Trained models on disk: NAME.safetensors with the weights, and NAME.json, a card with everything else needed.

The names of the classes are in both, because their order is the meaning of the network's outputs.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from nla.errors import DataError, WeightsError
from nla.io import atomic_write, read_json_as, regular, sha256
from nla.models.base import Architecture, ImageSpec, Network
from nla.models.calibration import Calibration
from nla.models.classifier import Classifier
from nla.models.file_content import problem_of
from nla.models.views import Views
from nla.seals import sealed_json
from nla.text import shown

FORMAT = 1
OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""In the message of a SafetensorError: number of the operating system's error."""
WEIGHTS = "model.safetensors"
"""Name of the weights file of the selected epoch, in the folder of a model."""
RETRAIN = "Run `dvc repro -sf train`."
CLASSES = "classes"
"""Where both files have the names of the classes; older weights lack them."""
PREDICTION = {"views": asdict(Views()), "precision": "fp32"}
"""How a model predicts unless its card says otherwise."""
Known = tuple[str, Sequence[str]]
"""Source and class names."""


class Card(BaseModel):
    """What a card must hold to build, check and use the network; stages add facts, such as metrics and hardware."""

    model_config = ConfigDict(extra="allow", strict=True)

    format: int
    architecture: Architecture
    image: ImageSpec
    sha256: str
    """Of the file with the weights."""
    positions_sha256: str | None = None
    """Of positions.parquet, which `train` writes beside the card."""
    source: str
    """Name of the data set."""
    classes: list[str]
    """In the order of the network's outputs."""
    fingerprint: str
    """Of the run that trained the network."""
    epoch: Annotated[int, Field(ge=0, lt=2**31)]
    """Epoch of the weights, counted from 1."""
    views: Views = Views()
    """Views that predictions are averaged over, wherever the model is used. Missing in older cards."""
    precision: Literal["fp32"] = "fp32"
    """Arithmetic of predictions, also of a network that was trained in bfloat16. Missing in older cards."""
    calibration: Calibration = Calibration()
    """Of the probabilities averaged over the views, with facts about its fit. Missing in older cards."""

    @field_validator("image")
    @classmethod
    def _one_mean_and_std_per_channel(cls, image: ImageSpec) -> ImageSpec:
        if not len(image.mean) == len(image.std) == image.channels:
            raise ValueError(f"must have {image.channels} values of mean and of std, one per channel")
        return image

    @field_validator("classes")
    @classmethod
    def _one_name_per_output(cls, classes: list[str], info: ValidationInfo) -> list[str]:
        return checked_names(classes, info)


def checked_names(classes: list[str], info: ValidationInfo) -> list[str]:
    """The names of a card's classes, one per output of its architecture. Raises ValueError if they are not."""
    architecture = info.data.get("architecture")  # missing if it is invalid itself
    if architecture is not None and len(classes) != architecture.num_classes:
        raise ValueError(f"must have {architecture.num_classes} names, as architecture.num_classes says")
    if len(set(classes)) < len(classes) or "" in classes:
        raise ValueError("must have a name of its own for each class")
    if any(shown(name) != name for name in classes):  # a terminal would obey them
        raise ValueError("must be names without control characters")
    return classes


def save_model(weights: Path, state: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Writes `weights` (.safetensors) and the card beside it (.json), each atomically.

    Args:
        weights: path, such as models/model.safetensors.
        state: the backbone's state dict.
        card: Classifier.describe(), and the other fields of Card, of which `views` and `precision` have defaults.
    """
    write_with_card(weights, state, {"format": FORMAT, **PREDICTION, **card})


def write_with_card(weights: Path, state: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Writes `weights` with the names of the card's classes, and the card with their sha256, each atomically."""
    with atomic_write(weights.with_suffix(".json")) as card_part, atomic_write(weights) as part:
        write_tensors(part, state, {CLASSES: json.dumps(list(card[CLASSES]))})
        card_part.write_bytes(sealed_json({**card, "sha256": sha256(part)}))


def weights_file(path: Path) -> Path:
    """The weights file of a model: `path` itself, or model.safetensors in the folder `path`.

    Raises:
        WeightsError: there is no such file or folder, or it is no .safetensors file.
    """
    if path.is_dir():
        return path / WEIGHTS
    if not path.exists():
        kind = "file or folder" if path.parent.is_dir() else "folder"
        raise WeightsError(f"{path}: no such {kind}. Name a folder with {WEIGHTS} and its card, or such a file.")
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path}: a model is a .safetensors file with its card beside it. Name that, or its folder; other weights "
            "are for model.weights."
        )
    return path


def load_model(weights: Path) -> tuple[Classifier, dict[str, Any]]:
    """Returns the classifier, in eval mode on the CPU, and its card.

    Raises:
        WeightsError: a file is missing or damaged, the two files are from different runs, or the weights do not
            match the card's architecture or classes, or are not finite.
    """
    card = read_card(weights)
    model = Classifier.build(card)
    load_weights(model, weights, card["sha256"], card[CLASSES])
    return model.eval(), card


def load_weights(model: Network, weights: Path, expected: str, classes: Sequence[str], remedy: str = RETRAIN) -> None:
    """Loads the weights that belong to a card into the backbone.

    Args:
        model: a network as the card describes it.
        weights: path of the weights.
        expected: the card's hash of them.
        classes: the card's names of the classes.
        remedy: what to do if they do not belong to it, for the message.

    Raises:
        WeightsError: they are missing, damaged, not finite, of another run, or for other classes.
    """
    state = read_tensors(weights, remedy)
    load_state(model, state, weights, remedy)
    if expected != sha256(weights):
        raise WeightsError(f"{weights}: the sha256 does not match {weights.stem}.json. {remedy}")
    _check_classes(weights, classes, remedy)
    if wrong := next((name for name, tensor in state.items() if not torch.isfinite(tensor).all()), None):
        raise WeightsError(f"{weights}: {wrong}: not all values are finite, so no image can be classified. {remedy}")


def _check_classes(weights: Path, classes: Sequence[str], remedy: str) -> None:
    """Raises WeightsError if the network was saved with other names of its outputs, or in another order."""
    with safe_open(weights, framework="pt") as file:
        saved = (file.metadata() or {}).get(CLASSES)
    if saved is not None and saved != json.dumps(list(classes)):
        raise WeightsError(
            f"{weights.with_suffix('.json')}: classes: the weights were saved with {saved}, in this order (got "
            f"{json.dumps(list(classes))}). Restore the card. Or: {remedy}"
        )


def read_card(weights: Path) -> dict[str, Any]:
    """Reads the card beside `weights`, with the default of each field that an older one lacks.

    Raises:
        WeightsError: the card is missing or damaged, has another format, or a field has a value that it cannot have.
    """
    path = weights.with_suffix(".json")
    if path.is_file() and (problem := problem_of(path)):
        raise WeightsError(f"{path} {problem} Or: {RETRAIN}")
    card = read_json_as(path, dict[str, Any], RETRAIN, WeightsError)
    if card.get("format") != FORMAT:
        raise WeightsError(f"{path}: format: this version reads {FORMAT} (got {card.get('format')!r}). {RETRAIN}")
    read_json_as(path, Card, RETRAIN, WeightsError)
    return {**PREDICTION, **card}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: dict[str, str] | None = None) -> None:
    """Writes a .safetensors file, with `facts` as its metadata.

    Raises:
        OSError: it cannot be written, for example because the disk is full.
    """
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, facts)
    except SafetensorError as error:
        code = OS_ERROR.search(str(error))
        number = int(code[1]) if code else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from None


def read_tensors(path: Path, remedy: str = RETRAIN) -> dict[str, Tensor]:
    """Reads the tensors of a .safetensors file. Raises WeightsError with `remedy` if it is missing or damaged."""
    regular(path)
    try:
        if problem := problem_of(path):
            raise WeightsError(f"{path} {problem} Or: {remedy}")
        return load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: file not found. {remedy}") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: the file is damaged ({error}). {remedy}") from None


def require_same(model: Known, data: Known, where: Path) -> None:
    """Raises DataError if the table `where` has a different source or different classes than the model's training data.

    Its labels are integers, which would be misread as the model's classes.
    """
    (source, classes), (other, others) = model, data
    if (source, tuple(classes)) != (other, tuple(others)):
        raise DataError(
            f"{where}: the model was trained on {source} with classes {', '.join(classes)} (got {other} with "
            f"{', '.join(others)}). Run `dvc repro`, or evaluate it with `nla measure {where}`."
        )


def load_state(model: Network, state: Mapping[str, Tensor], origin: Path | str, remedy: str = RETRAIN) -> None:
    """Loads `state` into the backbone. Raises WeightsError naming the tensors that do not fit."""
    expected = model.backbone.state_dict()
    wrong = [f"{name} is missing" for name in expected if name not in state]
    wrong += [f"{name} is unknown" for name in state if name not in expected]
    wrong += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if wrong:
        shown = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise WeightsError(f"{origin}: the weights do not fit {model.architecture}: {shown}. {remedy}")
    model.backbone.load_state_dict(dict(state))
