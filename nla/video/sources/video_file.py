"""Reads a video file frame by frame, with the time of each, without holding it in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what it would print without a file name is an error here

import cv2

from nla.data.images import Pixels
from nla.errors import DataError
from nla.io import regular
from nla.text import printable

VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm")


class VideoFrame(NamedTuple):
    """A decoded frame."""

    number: int
    """Counted from 1."""
    time: float
    """Seconds, as the file states for this frame: the rate may vary."""
    pixels: Pixels
    """RGB."""


def read_video(path: Path) -> Iterator[VideoFrame]:
    """Yields the frames of a video file.

    Raises:
        OSError: it is no regular file.
        DataError: there is no frame that can be decoded.
    """
    capture = cv2.VideoCapture(str(regular(path)), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise DataError("cannot be opened as a video: it is damaged or empty, or no video. Get it again")
        number = 0
        while True:
            is_frame, pixels = capture.read()
            if not is_frame:
                break
            number += 1
            yield VideoFrame(number, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        if not number:
            raise DataError(f"no frame can be decoded (codec {_codec(capture)}). Convert it, such as to H.264")
    finally:
        capture.release()


def stated_frames(path: Path) -> int:
    """Number of frames that the file's header states; 0 if it states none. Some containers only estimate it."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        return max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0) if capture.isOpened() else 0
    finally:
        capture.release()


def _codec(capture: cv2.VideoCapture) -> str:
    code = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
    name = code.to_bytes(4, "little").decode("latin-1").strip("\0 ")
    return printable(name) or "unknown"
