"""The frames of a stream that a later window can still hold, with the logits of its windows so far.

Legend: T frames of a window, F features, C classes; the views of a frame are the image and its mirror image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from nla.video.windows import step_of


class _Held(NamedTuple):
    """A frame."""

    frame: int
    """Its number."""
    feature_2F: np.ndarray
    own_2C: np.ndarray
    """Logits of the frame model."""
    total_2C: np.ndarray
    """Sum of the logits over its windows so far."""
    windows: int
    """Number of these."""


class StreamWindow:
    """Fewer than two windows of frames, however long the stream is."""

    def __init__(self, size: int, overlap: float) -> None:
        self.size, self.step = size, step_of(size, overlap)
        self.seen = 0
        self._end = 0
        """Frames up to which there was a window."""
        self._held: list[_Held] = []

    def add(self, frame: int, feature_2F: np.ndarray, logits_2C: np.ndarray) -> bool:
        """Holds a frame, with its number and the frame model's logits; returns whether a window is complete with it."""
        self._held.append(_Held(frame, feature_2F, logits_2C, np.zeros_like(logits_2C, np.float64), 0))
        self.seen += 1
        return self.seen >= self.size and (self.seen - self.size) % self.step == 0

    @property
    def has_rest(self) -> bool:
        """Whether frames are in no window yet, or in none that ends with the stream."""
        return self._end < self.seen

    @property
    def frames(self) -> np.ndarray:
        """Numbers of the last `size` frames, or of all of a shorter stream, int64 [T]."""
        return np.array([each.frame for each in self._held[-self.size :]], np.int64)

    @property
    def features(self) -> np.ndarray:
        """[T, 2, F] of the same frames."""
        return np.stack([each.feature_2F for each in self._held[-self.size :]])

    def take(self, logits_T2C: np.ndarray) -> None:
        """Adds the logits of a window over the last frames."""
        start = len(self._held) - len(logits_T2C)
        added = [
            each._replace(total_2C=each.total_2C + new_2C, windows=each.windows + 1)
            for each, new_2C in zip(self._held[start:], logits_T2C, strict=True)
        ]
        self._held[start:], self._end = added, self.seen  # at once: a signal could come between two frames

    def final(self, is_end: bool) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yields and forgets (frame, mean logits [2, C], those of the frame model) of frames that are done.

        The window that ends with the stream begins behind the last one, so all before its second frame are.
        """
        done = len(self._held) if is_end else max(len(self._held) - self.size + 1, 0)
        for each in self._held[:done]:
            yield each.frame, each.total_2C / each.windows, each.own_2C
        del self._held[:done]
