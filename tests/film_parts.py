"""A film with two faces, for the tests of prediction."""

from __future__ import annotations

from pathlib import Path

import cv2
from photo_parts import photo

FRAMES, RATE = 11, 10.0
STEP = 6
"""Pixels that both faces move from frame to frame."""


def write_film(path: str, frames: int = FRAMES) -> Path:
    """Two faces that walk to the right, again and again; none in the third frame."""
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), RATE, (480, 270))
    for number in range(frames):
        shift = STEP * (number % FRAMES)
        places = [] if number == 2 else [(20 + shift, 60, 130), (260 + shift, 70, 120)]
        writer.write(cv2.cvtColor(photo(480, 270, places), cv2.COLOR_RGB2BGR))
    writer.release()
    return Path(path)
