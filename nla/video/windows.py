"""Windows over a video: all frames are covered, and what several windows say of a frame is averaged.

Legend: T frames of a video, W windows.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def windows(frames: int, size: int, overlap: float) -> list[slice]:
    """Windows of `size` frames that cover `frames` frames, each but the last a fixed step behind the one before.

    The last window ends with the video, so that it is as long as the others; a shorter video is one window.

    Args:
        frames: T, at least 1.
        size: frames of a window, at least 1.
        overlap: share of a window, in [0, 1), that it has in common with the next one.
    """
    if frames <= size:
        return [slice(0, frames)]
    starts = [*range(0, frames - size, step_of(size, overlap)), frames - size]
    return [slice(start, start + size) for start in starts]


def step_of(size: int, overlap: float) -> int:
    """Frames from the start of a window to that of the next one, at least 1."""
    return max(size - round(overlap * size), 1)


def averaged(parts: Iterable[tuple[slice, np.ndarray]], frames: int) -> np.ndarray:
    """Mean over windows of the values of each frame, float64 [T, ...], given (window, values of its frames)."""
    total: np.ndarray | None = None
    count_T = np.zeros(frames)
    for window, values in parts:
        if total is None:
            total = np.zeros((frames, *values.shape[1:]))
        total[window] += values
        count_T[window] += 1
    if total is None or not count_T.all():
        raise ValueError(f"the windows leave out {int((count_T == 0).sum())} of {frames} frames")
    mean: np.ndarray = total / count_T.reshape(-1, *[1] * (total.ndim - 1))
    return mean
