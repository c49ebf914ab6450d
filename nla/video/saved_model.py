"""Trained models of sequences on disk: model.safetensors, and model.json, a card with everything else needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from torch import Tensor

from nla.config.sequence import MOST_FRAMES
from nla.errors import WeightsError
from nla.io import read_json_as
from nla.models.calibration import Calibration
from nla.models.saved_model import checked_names, load_weights, write_with_card
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
    calibration: Calibration = Calibration()
    """Of the probabilities averaged over both views, with facts about its fit. Missing in older cards."""

    @field_validator("classes")
    @classmethod
    def _one_name_per_output(cls, classes: list[str], info: ValidationInfo) -> list[str]:
        return checked_names(classes, info)


def save_sequence_model(weights: Path, state: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Writes `weights` (.safetensors), and the card beside it (.json) with the fields of SequenceCard, atomically."""
    write_with_card(weights, state, {"format": FORMAT, **card})


def load_sequence_model(weights: Path) -> tuple[SequenceClassifier, SequenceCard]:
    """The network, in eval mode on the CPU, and its card.

    Raises:
        WeightsError: a file is missing or damaged, the two are of different runs, or the weights do not fit the card
            or its classes.
    """
    card = read_json_as(weights.with_suffix(".json"), SequenceCard, RETRAIN, WeightsError)
    model = SequenceClassifier(card.architecture)
    load_weights(model, weights, card.sha256, card.classes, RETRAIN)
    return model.eval(), card
