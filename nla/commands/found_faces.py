"""Photos given to a command: finding and predicting their faces, batch by batch, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nla.commands.image_inputs import StoredImage, read_photo
from nla.data.images import Pixels, fit
from nla.data.parallel import map_in_order
from nla.data.problems import Problem
from nla.faces.detector import Face
from nla.faces.photo import FaceFinder, Found
from nla.serving.predictor import BATCH, Prediction, Predictor

AHEAD = 32
"""Photos read ahead: each may hold many faces."""


@dataclass(frozen=True)
class PhotoFaces:
    """The faces of a photo, fitted to the model."""

    image: StoredImage
    faces: tuple[Face | None, ...]
    """None: the image is a crop itself."""
    pixels: tuple[Pixels, ...]
    note: str


@dataclass(frozen=True)
class PredictedFaces:
    """A photo with the predictions for its n faces."""

    image: StoredImage
    faces: tuple[Face | None, ...]
    note: str
    prediction: Prediction


def predict_photos(
    predictor: Predictor, finder: FaceFinder, stored: Iterable[StoredImage], problems: list[Problem]
) -> Iterator[PredictedFaces]:
    """Yields photos with the predictions for their faces, in the order of `stored`.

    The faces of several photos are predicted together, so that memory does not grow with their number. A few threads
    read and find ahead. Unreadable images are left out and appended to `problems`.
    """

    def read(image: StoredImage) -> PhotoFaces | Problem:
        return _read(image, predictor, finder)

    batch: list[PhotoFaces] = []
    for found in map_in_order(read, stored, AHEAD):
        if isinstance(found, Problem):
            problems.append(found)
            continue
        batch.append(found)
        if max(len(batch), sum(len(photo.pixels) for photo in batch)) >= BATCH:
            yield from _predict(predictor, batch)
            batch = []
    if batch:
        yield from _predict(predictor, batch)


def _read(image: StoredImage, predictor: Predictor, finder: FaceFinder) -> PhotoFaces | Problem:
    pixels, spec = read_photo(image, predictor.limits), predictor.model.image
    if isinstance(pixels, Problem):
        return pixels
    found: Found = finder.find(pixels)
    return PhotoFaces(image, found.faces, tuple(fit(crop, spec.size, spec.color) for crop in found.crops), found.note)


def _predict(predictor: Predictor, batch: list[PhotoFaces]) -> Iterator[PredictedFaces]:
    pixels = [face for photo in batch for face in photo.pixels]
    prediction = predictor.predict_fitted(predictor.stacked(pixels))
    for photo, own in zip(batch, prediction.split(len(photo.pixels) for photo in batch), strict=True):
        yield PredictedFaces(photo.image, photo.faces, photo.note, own)
