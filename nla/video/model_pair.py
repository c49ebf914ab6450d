"""A sequence model and the frame model inside it, found by the name of either, or of the folder that holds both.

FOLDER/models/      the frame model, as in video/ and in a registered sequence model
FOLDER/sequence/    the sequence model
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from nla.errors import WeightsError
from nla.io import read_json_as
from nla.models.saved_model import WEIGHTS
from nla.video.saved_model import RETRAIN

FRAME_MODEL, SEQUENCE_MODEL = "models", "sequence"
"""Names of the folders."""


class ModelPair(NamedTuple):
    """Folders or weights files of the two."""

    frame_model: Path
    sequence_model: Path


def find_pair(path: Path) -> ModelPair | None:
    """The sequence model that `path` names, with its frame model; None if it names a model of single images alone.

    Args:
        path: the folder of both, that of the sequence model or its weights file, or the folder of the frame model. The
            weights *file* of a frame model names this one alone.

    Raises:
        WeightsError: the frame model is missing, or the card of the sequence model is damaged.
    """
    if is_sequence_model(path):
        beside = (path if path.is_dir() else path.parent).resolve().parent / FRAME_MODEL
        if not (beside / WEIGHTS).is_file():
            raise WeightsError(
                f"{path}: the frame model of this sequence model is missing: no {beside / WEIGHTS}. Keep the folders "
                f"{FRAME_MODEL}/ and {SEQUENCE_MODEL}/ of a training side by side."
            )
        return ModelPair(beside, path)
    if not path.is_dir():
        return None
    inside, beside = path / SEQUENCE_MODEL, path.resolve().parent / SEQUENCE_MODEL
    if not (path / WEIGHTS).exists() and is_sequence_model(inside):
        return ModelPair(path / FRAME_MODEL, inside)
    return ModelPair(path, beside) if is_sequence_model(beside) else None


def is_sequence_model(path: Path) -> bool:
    """Whether a weights file, or a folder with one, has the card of a sequence model beside it.

    Raises:
        WeightsError: the card is damaged.
    """
    weights = path / WEIGHTS if path.is_dir() else path
    if weights.suffix != ".safetensors" or not weights.is_file() or not weights.with_suffix(".json").is_file():
        return False
    return "frame_model_sha256" in read_json_as(weights.with_suffix(".json"), dict[str, Any], RETRAIN, WeightsError)
