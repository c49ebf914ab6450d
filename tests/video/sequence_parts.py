"""Small made-up sequences: labels in stretches, and features that tell them through noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from nla.config.base import merge
from nla.config.sequence import SequenceConfig
from nla.video.frames import NO_LABEL
from nla.video.sequences import Sequences, VideoSequence

CLASSES = ("a", "b", "c")
TINY: dict[str, Any] = {
    "model": {"width": 8, "layers": 1, "heads": 2, "feedforward": 8, "dropout": 0.1},
    "window": 12,
    "train": {"epochs": 3, "batch_size": 4, "lr": 0.01, "precision": "fp32", "select": "macro_f1"},
}


def config(**changes: Any) -> SequenceConfig:
    """TINY with `changes`."""
    return SequenceConfig.model_validate(merge(TINY, changes))


def make_sequences(seed: int, videos: int = 6, unannotated: float = 0.1) -> Sequences:
    """Videos of 5 to 30 frames, some of whose numbers are missing."""
    rng = np.random.default_rng(seed)
    made = []
    row = 0
    for number in range(videos):
        frames = int(rng.integers(5, 31))
        clean = np.repeat(rng.integers(0, 3, 8), 5)[:frames]
        signal = np.eye(3)[clean] * 2
        features = rng.normal(0, 1, (frames, 2, 4))
        features[:, :, :3] += signal[:, None]
        label = np.where(rng.random(frames) < unannotated, NO_LABEL, clean)
        made.append(
            VideoSequence(
                f"v{number}",
                np.cumsum(rng.integers(1, 3, frames)),
                features.astype(np.float16),
                features[:, :, :3].astype(np.float32),
                label,
                label,
                None,
                None,
                np.arange(row, row + frames),
            )
        )
        row += frames
    return Sequences(tuple(made), CLASSES, "made-up")
