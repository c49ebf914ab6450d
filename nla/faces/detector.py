"""What a detector of faces is: from the pixels of a photo to boxes, scores and, of some detectors, five points."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import cv2
import numpy as np

from nla.data.images import Pixels


@dataclass(frozen=True)
class Face:
    """A face in a photo. A box can reach beyond the photo, where a face is cut by its edge."""

    left: float
    """Of the box, in pixels of the photo from its left edge."""
    top: float
    """In pixels from its upper edge."""
    width: float
    """In pixels of the photo."""
    height: float
    """In pixels of the photo."""
    score: float
    """The higher, the more certain. Its scale is the detector's own: YuNet's ends at 1, dlib's has no end."""
    landmarks_52: np.ndarray | None = field(default=None, compare=False)
    """float32 [5, 2], x and y in pixels of the photo: right eye, left eye, nose, right and left corner of the mouth,
    where right is that of the person. None if the detector has none."""

    @property
    def center(self) -> tuple[float, float]:
        """Middle of the box, x and y."""
        return self.left + self.width / 2, self.top + self.height / 2

    @property
    def side(self) -> float:
        """Mean of width and height."""
        return (self.width + self.height) / 2

    def overlap(self, other: Face) -> float:
        """Intersection over union of the two boxes, in [0, 1]."""
        across = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        down = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        common = max(across, 0.0) * max(down, 0.0)
        share = common / (self.width * self.height + other.width * other.height - common)
        return min(share, 1.0)  # not above it by rounding

    def enlarged(self, factor: float) -> Face:
        """The same face in a photo that is `factor` times as large."""
        box = {name: getattr(self, name) * factor for name in ("left", "top", "width", "height")}
        points = None if self.landmarks_52 is None else self.landmarks_52 * np.float32(factor)
        return replace(self, **box, landmarks_52=points)


class Detector(Protocol):
    """Finds faces. One detector can be used by several threads, which take turns."""

    @property
    def name(self) -> str:
        """`yunet` or `dlib`, as in a `Crop`."""
        ...

    def detect(self, image_HWC: Pixels) -> list[Face]:
        """Faces in a photo, best first.

        Args:
            image_HWC: uint8, RGB [H, W, 3] or grey [H, W], upright.
        """
        ...


def shrunk(image_HWC: Pixels, longest_side: int) -> tuple[Pixels, float]:
    """The image with no side longer than `longest_side` pixels, and the factor that enlarges boxes in it again."""
    height, width = image_HWC.shape[:2]
    factor = max(height, width) / longest_side
    if factor <= 1:
        return image_HWC, 1.0
    size = max(round(width / factor), 1), max(round(height / factor), 1)
    return cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA), factor


def best_first(faces: list[Face], factor: float) -> list[Face]:
    """Faces of a shrunk image in pixels of the photo, by falling score; equal ones from left to right."""
    return sorted((face.enlarged(factor) for face in faces), key=lambda face: (-face.score, face.left, face.top))
