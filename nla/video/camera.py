"""A webcam, frame by frame."""

from __future__ import annotations

import time
from collections.abc import Iterator

import cv2

from nla.errors import CommandError
from nla.video.sources.video_file import VideoFrame


def read_camera(number: int) -> Iterator[VideoFrame]:
    """Yields the frames of a camera until it is unplugged, with the seconds since the first one.

    Raises:
        CommandError: it cannot be opened, or sends no frame.
    """
    remedy = "Check that it is plugged in, that no other program uses it, and its number"
    capture = cv2.VideoCapture(number)
    try:
        if not capture.isOpened():
            raise CommandError(f"camera {number}: cannot be opened. {remedy}.")
        start, count = time.monotonic(), 0
        while True:
            is_frame, pixels = capture.read()
            if not is_frame:
                break
            count += 1
            yield VideoFrame(count, time.monotonic() - start, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        if not count:
            raise CommandError(f"camera {number}: sends no frame. {remedy}.")
    finally:
        capture.release()
