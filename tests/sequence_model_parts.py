"""An untrained sequence model beside a frame model, as the stages of video/ leave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nla.config.sequence import SequenceModelConfig
from nla.models.classifier import Classifier
from nla.models.saved_model import load_model
from nla.video.models import SequenceArchitecture, SequenceClassifier
from nla.video.saved_model import save_sequence_model


def feature_count(model: Classifier) -> int:
    size = model.image.size
    images = torch.zeros(1, size, size, model.image.channels, dtype=torch.uint8)
    return int(model.maps(images).shape[1])


def add_sequence_model(folder: Path, *, window: int = 6, answer: int | None = None, **changes: Any) -> Path:
    """FOLDER/sequence/, for the frame model in FOLDER/models/; it answers `answer`, or as the frames are."""
    model, card = load_model(folder / "models/model.safetensors")
    torch.manual_seed(1)
    settings = SequenceModelConfig(width=8, layers=1, heads=2, feedforward=8, positions=True)
    network = SequenceClassifier(SequenceArchitecture.of(settings, feature_count(model), len(card["classes"])))
    with torch.no_grad():
        network.backbone.head.weight.mul_(5 if answer is None else 0)
        if answer is not None:
            network.backbone.head.bias.copy_(torch.eye(len(card["classes"]))[answer])
    facts = {"frame_model_sha256": card["sha256"], "source": card["source"], "classes": list(card["classes"])}
    facts |= {"window": window, "overlap": 0.5, "fingerprint": "s0", "epoch": 2}
    weights = folder / "sequence/model.safetensors"
    save_sequence_model(weights, network.backbone.state_dict(), {**network.describe(), **facts, **changes})
    return folder / "sequence"
