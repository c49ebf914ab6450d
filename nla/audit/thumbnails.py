"""Small images of audited faces, for pages and files that hold them inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from nla.audit.faces import Faces, encoded_images
from nla.data.images import decode, encode_jpeg, fit

SIDE = 96
"""Largest side, in pixels."""
QUALITY = 90


def thumbnails(faces: Faces, tables: Mapping[str, Path]) -> Iterator[tuple[int, bytes, int]]:
    """Position of each face, a JPEG of it, and the side of that in pixels. Raises DataError as `encoded_images`."""
    for place, data in encoded_images(faces, tables):
        pixels = decode(data)
        yield place, thumbnail(pixels), min(len(pixels), SIDE)


def thumbnails_of(faces: Faces, images_NHWC: np.ndarray, row_N: np.ndarray) -> Iterator[tuple[int, bytes, int]]:
    """The same, from decoded images of one split, uint8 [N, H, W, C], and their rows [N]."""
    place_of = {row: place for place, row in enumerate(row_N.tolist())}
    for face, row in enumerate(faces.table["row"].to_pylist()):
        pixels = images_NHWC[place_of[row]].squeeze()
        yield face, thumbnail(pixels), min(len(pixels), SIDE)


def thumbnail(pixels: np.ndarray) -> bytes:
    """A JPEG of at most SIDE x SIDE pixels; images of `prepare` are square."""
    return encode_jpeg(fit(pixels, min(len(pixels), SIDE), "grey" if pixels.ndim == 2 else "rgb"), QUALITY)
