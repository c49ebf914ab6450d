"""From an encoded image to the crops of its faces, in the size and colour of a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nla.data.image_header import image_size
from nla.data.images import Pixels, check_bytes, check_pixels, decode
from nla.errors import DataError
from nla.faces import FaceFinder, Found
from nla.limits import ImageLimits
from nla.web.live_model import ModelInUse
from nla.web.refusals import Refused
from nla.web.request_images import Upload

NONE = "no face found; if the image is a crop of a face, send cropped=true"


@dataclass(frozen=True)
class Prepared:
    """An image with its faces."""

    width: int
    height: int
    """Of the upright image, in pixels."""
    found: Found
    crops_NHWC: np.ndarray
    """uint8, as the model takes them; N is the number of faces, and can be 0."""


def prepare(upload: Upload, model: ModelInUse, cropped: bool, limits: ImageLimits) -> Prepared:
    """Decodes an image and crops its faces.

    Raises:
        Refused: 413: too large, by its header; 422: damaged, or not an image.
    """
    pixels = _decoded(upload, limits)
    found = find_faces(pixels, model.finder, cropped)
    crops = model.predictor.fitted(found.crops)
    height, width = pixels.shape[:2]
    return Prepared(width, height, found, crops)


def find_faces(pixels: Pixels, finder: FaceFinder, cropped: bool) -> Found:
    """The faces in an image; the whole image is one if it is `cropped`."""
    found = Found((None,), (pixels,), "") if cropped else finder.find(pixels)
    return found if found.faces else Found((), (), NONE)


def _decoded(upload: Upload, limits: ImageLimits) -> Pixels:
    try:
        width, height = image_size(upload.content)
        try:
            check_bytes(len(upload.content), limits)
            check_pixels(width, height, limits)
        except DataError as error:
            raise Refused(413, f"{upload.name}: {error}.") from None
        return decode(upload.content, limits)
    except DataError as error:
        message = f"{upload.name}: {error}. Send the whole content of a PNG, JPEG, BMP or WebP file."
        raise Refused(422, message) from None
