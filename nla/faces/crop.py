"""The crop of a face for a model: one function for training crops and for prediction.

A model sees faces as its training images show them: how much forehead, chin and background, upright or not. A `Crop`
says that relative to a detector's box, so it belongs to one detector; it is the field `crop` of a model's card.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import cv2
import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from nla.data.images import Pixels
from nla.errors import CommandError, WeightsError
from nla.faces.detector import Face
from nla.io import first_problem, read_json_as

MARGINS = -0.4, 3.0
"""Least and largest margin: a crop has a fifth of a box's side at least, and seven times it at most."""
SHIFTS = -1.0, 1.0
"""Least and largest shift downwards."""
Margin = Annotated[float, Field(ge=MARGINS[0], le=MARGINS[1], allow_inf_nan=False)]
Shift = Annotated[float, Field(ge=SHIFTS[0], le=SHIFTS[1], allow_inf_nan=False)]


@dataclass(frozen=True)
class Crop:
    """A square around a face, in shares of the mean of the box's width and height."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    detector: Literal["yunet", "dlib"]
    """Whose boxes the shares are of."""
    margin: Margin
    """Added on each side; below 0, the crop is smaller than the box."""
    down: Shift = 0.0
    """By how much the middle of the crop is below that of the box; above it, if negative."""
    align: bool = False
    """Whether the crop is rotated so that the eyes are level; needs a detector that gives points."""

    def for_detector(self, name: str) -> Crop:
        """About the same crop by the boxes of another detector, by their relation in FERPlus (`FERPLUS`).

        Raises:
            CommandError: it has no points, which an aligned crop needs.
        """
        if name == self.detector:
            return self
        if self.align and name == "dlib":
            raise CommandError("the model's crops are aligned by the eyes, which dlib does not give. Use yunet.")
        own, other = FERPLUS[self.detector], FERPLUS[name]
        ratio = (1 + 2 * other.margin) / (1 + 2 * own.margin)  # own side of a box / the other's
        margin = ((1 + 2 * self.margin) * ratio - 1) / 2
        return Crop(other.detector, margin, (self.down - own.down) * ratio + other.down, self.align)

    def square(self, face: Face) -> tuple[float, float, float]:
        """x and y of the middle, and the side, in pixels of the photo."""
        x, y = face.center
        return x, y + self.down * face.side, face.side * (1 + 2 * self.margin)


FERPLUS = {"yunet": Crop("yunet", 0.06, 0.0), "dlib": Crop("dlib", 0.08, -0.07)}
"""How FERPlus shows faces, by the boxes of each detector: medians of 441 and 388 boxes in 500 training faces, which
were enlarged with repeated edges (benchmarks/face_margins.py, its record, to two decimals)."""


def stated_crop(field: Mapping[str, Any] | None) -> Crop | None:
    """The field `crop` of a model's card; None if it has none. Raises WeightsError if the field is not a crop."""
    if field is None:
        return None
    try:
        return TypeAdapter(Crop).validate_json(json.dumps(field), strict=True)
    except ValidationError as invalid:
        problem = first_problem(invalid)
        raise WeightsError(f"the model's card: crop: {problem}. Write it as docs/faces.md says.") from None


def read_crop(path: Path) -> Crop:
    """A crop from a JSON file, such as `crop.json` of `nla crop`. Raises DataError if it is missing, or is no crop."""
    return read_json_as(path, Crop, "Name a crop.json that `nla crop` wrote.")


def crop_for(stated: Crop | None, detector: str) -> Crop:
    """The crop by a detector's boxes; that of FERPlus if none is stated. Raises CommandError as `Crop.for_detector`."""
    return FERPLUS[detector] if stated is None else stated.for_detector(detector)


def crop_face(image_HWC: Pixels, face: Face, crop: Crop) -> Pixels:
    """Cuts a face out of a photo, as a square at the photo's own resolution; `nla.data.images.fit` resizes it.

    Where the square reaches beyond the photo, the pixels of its edge are repeated. The square is moved by half a pixel
    at most, so that no pixel is interpolated, except for a rotated one.

    Args:
        image_HWC: uint8, RGB [H, W, 3] or grey [H, W].
        face: a face in it.
        crop: that of the detector that found the face.

    Returns:
        uint8 [S, S, 3] or [S, S].
    """
    x, y, side = crop.square(face)
    size = max(round(side), 1)
    angle = _roll(face) if crop.align else 0.0
    if angle:
        return _rotated(image_HWC, (x, y), size, angle)
    left, top = round(x - size / 2), round(y - size / 2)
    return _window(image_HWC, left, top, size)


def _window(image_HWC: Pixels, left: int, top: int, size: int) -> Pixels:
    """Pixels [top, top + size) x [left, left + size), each that is outside replaced by the nearest one inside."""
    height, width = image_HWC.shape[:2]
    rows = np.clip(np.arange(top, top + size), 0, height - 1)
    columns = np.clip(np.arange(left, left + size), 0, width - 1)
    return np.ascontiguousarray(image_HWC[rows[:, None], columns])


def _roll(face: Face) -> float:
    """Angle in degrees of the line from the right to the left eye, clockwise; 0 without points."""
    if face.landmarks_52 is None:
        return 0.0
    (dx, dy) = face.landmarks_52[1] - face.landmarks_52[0]
    return math.degrees(math.atan2(float(dy), float(dx)))


def _rotated(image_HWC: Pixels, middle: tuple[float, float], size: int, angle: float) -> Pixels:
    """The square around `middle` whose sides are turned clockwise by `angle` degrees, upright."""
    turn = cv2.getRotationMatrix2D((0.0, 0.0), angle, 1.0)[:, :2]
    # Pixel centres are at whole numbers for warpAffine, and at halves in boxes.
    shift = np.full(2, (size - 1) / 2) - turn @ (np.array(middle) - 0.5)
    matrix = np.column_stack([turn, shift])
    return cv2.warpAffine(image_HWC, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
