"""Trained models of sequences on disk: model.safetensors, and model.json, a card with everything else needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from torch import Tensor

from nla.config.sequence import MOST_FRAMES
from nla.errors import WeightsError
from nla.io import atomic_write, read_json_as, sha256
from nla.models.saved_model import read_tensors, write_tensors
from nla.seals import sealed_json
from nla.video.models import SequenceArchitecture, SequenceClassifier

FORMAT = 1
RETRAIN = "Run `dvc repro -sf sequence` in video/."


class SequenceCard(BaseModel):
    """What a card must hold to build, check and use the network; stages add facts, such as metrics."""

    model_config = ConfigDict(extra="allow", strict=True)

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)]
    architecture: SequenceArchitecture
    sha256: str
    """Of the file with the weights."""
    frame_model_sha256: str
    """Of the weights of the frame model whose features it takes."""
    source: str
    classes: list[str]
    """In the order of the network's outputs."""
    window: Annotated[int, Field(ge=2, le=MOST_FRAMES)]
    overlap: Annotated[float, Field(ge=0, lt=1)]
    fingerprint: str
    epoch: Annotated[int, Field(ge=1, lt=2**31)]

    @field_validator("classes")
    @classmethod
    def _one_name_per_output(cls, classes: list[str], info: ValidationInfo) -> list[str]:
        architecture = info.data.get("architecture")  # missing if it is invalid itself
        if architecture is not None and len({*classes}) != architecture.num_classes != len(classes):
            raise ValueError(f"must have {architecture.num_classes} different names, as architecture.num_classes says")
        return classes


def save_sequence_model(weights: Path, state: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Writes `weights` (.safetensors), and the card beside it (.json) with the fields of SequenceCard, atomically."""
    with atomic_write(weights.with_suffix(".json")) as card_part, atomic_write(weights) as part:
        write_tensors(part, state)
        card_part.write_bytes(sealed_json({"format": FORMAT, **card, "sha256": sha256(part)}))


def load_sequence_model(weights: Path) -> tuple[SequenceClassifier, SequenceCard]:
    """The network, in eval mode on the CPU, and its card.

    Raises:
        WeightsError: a file is missing or damaged, the two are of different runs, or the weights do not fit the card.
    """
    card = read_json_as(weights.with_suffix(".json"), SequenceCard, RETRAIN, WeightsError)
    state = read_tensors(weights, RETRAIN)
    if card.sha256 != sha256(weights):
        raise WeightsError(f"{weights}: the sha256 does not match {weights.stem}.json. {RETRAIN}")
    model = SequenceClassifier(card.architecture)
    expected = {name: tensor.shape for name, tensor in model.backbone.state_dict().items()}
    if expected != {name: tensor.shape for name, tensor in state.items()}:
        raise WeightsError(f"{weights}: the weights do not fit {card.architecture}. {RETRAIN}")
    if wrong := next((name for name, tensor in state.items() if not torch.isfinite(tensor).all()), None):
        raise WeightsError(f"{weights}: {wrong}: not all values are finite. {RETRAIN}")
    model.backbone.load_state_dict(state)
    return model.eval(), card
