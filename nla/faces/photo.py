"""From a photo to the crops that a model classifies; images that are crops already stay as they are."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from nla.data.images import Pixels
from nla.faces.choice import available, open_detector
from nla.faces.crop import Crop, crop_face, crop_for
from nla.faces.detector import Detector, Face

SMALL = 64
"""An image with no side longer than this, or than the model's input, is a crop: FERPlus has 48 pixels, and in such a
photo with anything around it a face would have less than 40, dlib's smallest."""
FILLED = 0.6
"""Intersection over union of image and crop from which a single face fills the image: the crop has 77 % of its sides
at least. Detectors place the boxes of FERPlus that far apart (benchmarks/face_margins.py)."""
SQUARE = 1.1
"""Longer over shorter side up to which an image can be a crop: a model would see a longer one squeezed."""
AS_SMALL = "taken as a crop: as small as the model's input"
FULL = "taken as a crop: one face fills the image"
NONE = "no face found; if the image is a crop of a face, add --cropped"


@dataclass(frozen=True)
class Found:
    """What was found in an image."""

    faces: tuple[Face | None, ...]
    """Best first; None stands for an image that is a crop itself."""
    crops: tuple[Pixels, ...]
    """One for each face, at the image's own resolution."""
    note: str
    """Why there is no face, or why the image was taken as it is; empty otherwise."""


class FaceFinder:
    """Finds the faces in photos, and crops them for one model. Several threads can use it.

    Args:
        crop: how the model's training faces were cropped, as `stated_crop` reads it; None for that of FERPlus.
        input_size: side of the model's images in pixels.
        detector: as `open_detector` takes it; `auto` prefers the one that the crop belongs to. It is opened when the
            first image needs it.
        cropped: take all images as crops.
    """

    def __init__(self, crop: Crop | None, input_size: int, detector: str = "auto", *, cropped: bool = False) -> None:
        self._stated, self._name, self._cropped = crop, detector, cropped
        self._small = max(SMALL, input_size)
        self._opened: tuple[Detector, Crop] | None = None
        self._turn = threading.Lock()

    def find(self, image_HWC: Pixels) -> Found:
        """The faces in an image, uint8, RGB [H, W, 3] or grey [H, W], upright.

        Raises:
            CommandError, WeightsError: as `open_detector` and `Crop.for_detector`.
        """
        if self._cropped:
            return _as_it_is(image_HWC, "")
        if max(image_HWC.shape[:2]) <= self._small:
            return _as_it_is(image_HWC, AS_SMALL)
        detector, crop = self.open()
        faces = detector.detect(image_HWC)
        if len(faces) == 1 and fills(image_HWC, faces[0], crop):
            return _as_it_is(image_HWC, FULL)
        crops = tuple(crop_face(image_HWC, face, crop) for face in faces)
        return Found(tuple(faces), crops, "" if faces else NONE)

    @property
    def is_open(self) -> bool:
        """Whether an image has needed the detector."""
        return self._opened is not None

    def open(self) -> tuple[Detector, Crop]:
        """The detector, loaded once, and the crop by its boxes."""
        with self._turn:
            if self._opened is None:
                detector = open_detector(self._preferred())
                self._opened = detector, crop_for(self._stated, detector.name)
            return self._opened

    def _preferred(self) -> str:
        own = None if self._stated is None else self._stated.detector
        ready = {found.name for found in available() if found.is_ready}
        return own if self._name == "auto" and own in ready else self._name


def fills(image_HWC: Pixels, face: Face, crop: Crop) -> bool:
    """Whether an image is about the crop of its face: nearly square, and FILLED by it."""
    height, width = image_HWC.shape[:2]
    if max(height, width) > SQUARE * min(height, width):
        return False
    x, y, side = crop.square(face)
    square = Face(x - side / 2, y - side / 2, side, side, face.score)
    return square.overlap(Face(0, 0, width, height, face.score)) >= FILLED


def _as_it_is(image_HWC: Pixels, note: str) -> Found:
    return Found((None,), (image_HWC,), note)
