"""Reads a video file frame by frame, with the time of each, without holding it in memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what it would print without a file name is an error here

import cv2

from nla.data.images import DEFAULT, Pixels, check_pixels
from nla.errors import DataError
from nla.io import regular
from nla.limits import ImageLimits
from nla.text import printable

VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm")

EBML = b"\x1aE\xdf\xa3"
"""How MKV and WebM begin (RFC 8794, section 11.2.1)."""
FASTEST = 1000.0
"""Frames per second: a header that states more gives the unit of its clock."""
BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
"""Types of the first box of an MP4 or MOV (QuickTime File Format Specification, Atoms)."""


class VideoFrame(NamedTuple):
    """A decoded frame."""

    number: int
    """Counted from 1."""
    time: float
    """Seconds, as the file states for this frame: the rate may vary."""
    pixels: Pixels
    """RGB."""


def read_video(path: Path, limits: ImageLimits = DEFAULT) -> Iterator[VideoFrame]:
    """Yields the frames of a video file.

    Raises:
        OSError: it is no regular file.
        DataError: it is no video of these formats, no frame of it can be decoded, or frames are larger than `limits`
            permit, by its header.
    """
    _check_container(path)
    with _opened(path) as capture:
        if not capture.isOpened():
            raise DataError("cannot be opened as a video: it is damaged or empty, or no video. Get it again")
        width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        check_pixels(width, height, limits, "a frame")
        number = 0
        while True:
            is_frame, pixels = capture.read()
            if not is_frame:
                break
            number += 1
            yield VideoFrame(number, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        if not number:
            raise DataError(f"no frame can be decoded (codec {_codec(capture)}). Convert it, such as to H.264")


def stated_frames(path: Path) -> int:
    """Number of frames that the file's header states; 0 if it states none. Some containers only estimate it."""
    return max(int(_stated(path, cv2.CAP_PROP_FRAME_COUNT)), 0)


def stated_rate(path: Path) -> float:
    """Frames per second that the file's header states; 0 if it states none. The rate may vary within the file."""
    rate = _stated(path, cv2.CAP_PROP_FPS)
    return rate if 0 < rate < FASTEST else 0.0


def _stated(path: Path, what: int) -> float:
    try:
        _check_container(path)
    except (DataError, OSError):  # which `read_video` says
        return 0.0
    with _opened(path) as capture:
        return capture.get(what) if capture.isOpened() else 0.0


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        yield capture
    finally:
        capture.release()


def _check_container(path: Path) -> None:
    """Checks how the file begins: FFmpeg goes by content, and would open the files that a list with such a name names.

    Raises:
        OSError: it is no regular file.
        DataError: it is of another format than those of VIDEOS.
    """
    with regular(path).open("rb") as file:
        start = file.read(12)
    is_avi = start.startswith(b"RIFF") and start.endswith(b"AVI ")
    if not (is_avi or start.startswith(EBML) or start[4:8] in BOXES):
        raise DataError("cannot be opened as a video: by its content it is no MP4, MOV, AVI, MKV or WebM. Get it again")


def _codec(capture: cv2.VideoCapture) -> str:
    code = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
    name = code.to_bytes(4, "little").decode("latin-1").strip("\0 ")
    return printable(name) or "unknown"
