"""Photos for tests: drawn faces on a plain ground, which dlib's detector and YuNet take for faces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from nla.data.images import Pixels, encode_jpeg, encode_png
from nla.data.sources.synthetic import make_faces
from nla.faces.detector import Face

CLEAR = (3, 8, 11)
"""Numbers of drawn faces that both detectors find at every size."""


def drawn_face(number: int, side: int) -> Pixels:
    """One of CLEAR, grey [side, side]; the face fills it."""
    return cv2.resize(make_faces(30, seed=1)[0][CLEAR[number]], (side, side), interpolation=cv2.INTER_CUBIC)


def photo(width: int, height: int, places: Sequence[tuple[int, int, int]], colour: bool = True) -> Pixels:
    """A grey ground with a drawn face at each (left, top, side), of which parts can be outside."""
    around = max((side for _, _, side in places), default=0)
    ground = np.full((height + 2 * around, width + 2 * around), 128, np.uint8)
    for number, (left, top, side) in enumerate(places):
        rows, columns = slice(top + around, top + around + side), slice(left + around, left + around + side)
        ground[rows, columns] = drawn_face(number % len(CLEAR), side)
    grey = ground[around : around + height, around : around + width]
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB) if colour else grey.copy()


def write_photo(path: str | Path, pixels: Pixels) -> Path:
    """Writes a PNG or JPEG, by the suffix."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(pixels) if path.suffix == ".png" else encode_jpeg(pixels, 95))
    return path


def overlap(face: Face, place: tuple[int, int, int]) -> float:
    """Intersection over union of a face's box and a drawn face."""
    left, top, side = place
    across = min(face.left + face.width, left + side) - max(face.left, left)
    down = min(face.top + face.height, top + side) - max(face.top, top)
    common = max(across, 0) * max(down, 0)
    return common / (face.width * face.height + side * side - common)
