"""A film with the boxes of its faces, each with label and confidence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2

from nla.commands.row_files import Row
from nla.data.images import Pixels
from nla.errors import CommandError
from nla.io import atomic_write

CODEC = "mp4v"
"""MPEG-4 Part 2, which every build of OpenCV encodes by itself; H.264 needs another library."""
USUAL_RATE = 25.0
"""Frames per second where the film states none, as of a camera."""
Draw = Callable[[Pixels, Sequence[Row]], None]
"""Of a frame with the rows of its faces."""


@contextlib.contextmanager
def drawn_film(path: Path, rate: float, drawn: Callable[[Pixels, Sequence[Row]], Pixels]) -> Iterator[Draw]:
    """Yields a function that adds a frame with its rows; the film, an MP4, appears at the end.

    Args:
        path: of the film, with the suffix .mp4.
        rate: frames per second; 0 if unknown.
        drawn: makes the picture of a frame, RGB.

    Raises:
        OSError, CommandError: it cannot be written.
    """
    writer: cv2.VideoWriter | None = None
    with atomic_write(path) as part:
        own = part.with_name(f"{part.name}.mp4")  # OpenCV goes by the suffix

        def add(pixels: Pixels, rows: Sequence[Row]) -> None:
            nonlocal writer
            picture = drawn(pixels, rows)
            if writer is None:
                size = picture.shape[1], picture.shape[0]
                writer = cv2.VideoWriter(str(own), cv2.VideoWriter.fourcc(*CODEC), rate or USUAL_RATE, size)
                if not writer.isOpened():
                    raise CommandError(f"{path}: this OpenCV cannot write a film. Leave --draw out.")
            writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

        try:
            yield add
        finally:
            if writer is not None:
                writer.release()
                own.replace(part)
