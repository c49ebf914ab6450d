"""Trained models on disk: NAME.safetensors with the weights, and NAME.json, a card with everything else needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nla.errors import DataError, WeightsError
from nla.io import atomic_write, sha256
from nla.models.classifier import Classifier

FORMAT = 1
Known = tuple[str, Sequence[str]]
"""Source and class names."""


def save_model(weights: Path, state: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Writes `weights` (.safetensors) and the card beside it (.json), each atomically.

    Args:
        weights: path, such as models/model.safetensors.
        state: the backbone's state dict.
        card: Classifier.describe() and other facts: classes, source, fingerprint, epoch and so on.
    """
    with atomic_write(weights.with_suffix(".json")) as card_part, atomic_write(weights) as part:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, part)
        card_part.write_text(json.dumps({"format": FORMAT, **card, "sha256": sha256(part)}, indent=2) + "\n")


def load_model(weights: Path) -> tuple[Classifier, dict[str, Any]]:
    """Returns the classifier, in eval mode on the CPU, and its card.

    Raises:
        WeightsError: a file is missing or damaged, the two files are from different trainings, or the weights do not
            match the card's architecture.
    """
    card, state = read_card(weights), read_tensors(weights)
    model = Classifier.build(card)
    load_state(model, state, weights)
    if card["sha256"] != sha256(weights):
        raise WeightsError(f"{weights} is damaged (it has not the sha256 of its card): run `dvc repro -sf train`")
    return model.eval(), card


def read_card(weights: Path) -> dict[str, Any]:
    """Reads the card beside `weights`. Raises WeightsError if it is missing, damaged, or has another format."""
    path = weights.with_suffix(".json")
    try:
        card = json.loads(path.read_text())
    except FileNotFoundError:
        raise WeightsError(f"{path} is missing: it is written by `dvc repro` beside {weights.name}") from None
    except ValueError as error:
        raise WeightsError(f"{path} is damaged ({error}): run `dvc repro -sf train`") from None
    if card.get("format") != FORMAT:
        raise WeightsError(f"{path} has format {card.get('format')!r}, this version reads {FORMAT}")
    return card


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a .safetensors file. Raises WeightsError if it is missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"{path} is missing: run `dvc repro`") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged ({error}): run `dvc repro -sf train`") from None


def require_same(model: Known, data: Known, where: Path) -> None:
    """Raises DataError if the table `where` has a different source or different classes than the model's training data.

    Its labels are integers, which would be misread as the model's classes.
    """
    (source, classes), (other, others) = model, data
    if (source, tuple(classes)) != (other, tuple(others)):
        raise DataError(
            f"the model was trained on {source} ({', '.join(classes)}), but {where} holds {other} "
            f"({', '.join(others)}): run `dvc repro`, or measure it there with `nla measure {where}`"
        )


def load_state(model: Classifier, state: Mapping[str, Tensor], origin: Path | str) -> None:
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
        raise WeightsError(f"{origin} is of another architecture than {model.architecture}: {shown}")
    model.backbone.load_state_dict(dict(state))
