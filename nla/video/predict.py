"""Predictions for all frames of a video: overlapping windows, whose logits are averaged, and both views.

Legend: T frames of a video, W windows, F features, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from nla.evaluation.predict import evaluating
from nla.video.models import SequenceClassifier
from nla.video.windows import averaged, windows

AT_ONCE = 16
"""Windows in a pass of the network."""


def frame_probabilities(logits_T2C: np.ndarray) -> np.ndarray:
    """Those of the frame model: the mean over both views, float32 [T, C]."""
    p_T2C = torch.from_numpy(np.asarray(logits_T2C, np.float32)).softmax(2)
    probabilities: np.ndarray = p_T2C.mean(1).numpy()
    return probabilities


def sequence_probabilities(
    model: SequenceClassifier, features_T2F: np.ndarray, frame_T: np.ndarray, window: int, overlap: float
) -> np.ndarray:
    """Probabilities of each frame, the mean over both views, float32 [T, C].

    Args:
        features_T2F: of the image and of its mirror image.
        frame_T: frame numbers.
        window: frames that the model sees at once.
        overlap: share of a window that it has in common with the next one.
    """
    views = [
        averaged(_logits(model, features_T2F[:, view], frame_T, windows(len(frame_T), window, overlap)), len(frame_T))
        for view in range(2)
    ]
    p_2TC = torch.from_numpy(np.stack(views)).softmax(2)
    probabilities: np.ndarray = p_2TC.mean(0).numpy().astype(np.float32)
    return probabilities


def _logits(
    model: SequenceClassifier, features_TF: np.ndarray, frame_T: np.ndarray, cuts: list[slice]
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields (window, logits of its frames); all windows of a video are equally long."""
    device = next(model.parameters()).device
    with evaluating(model), torch.inference_mode():
        for start in range(0, len(cuts), AT_ONCE):
            part = cuts[start : start + AT_ONCE]
            features_WTF, frame_WT = (
                torch.from_numpy(np.stack([values[window] for window in part])).to(device)
                for values in (features_TF, frame_T)
            )
            logits_WTC = model(features_WTF, torch.ones_like(frame_WT, dtype=torch.bool), frame_WT)
            yield from zip(part, logits_WTC.float().cpu().numpy(), strict=True)
