"""Pictures of photos with the boxes of their faces, each with label and confidence."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nla.commands.drawn_film import Draw, drawn_film
from nla.commands.found_faces import PredictedFaces
from nla.commands.free_names import FreeNames
from nla.commands.image_inputs import read_photo
from nla.commands.row_files import Row
from nla.data.images import Pixels, encode_jpeg, encode_png
from nla.data.problems import Problem
from nla.errors import CommandError
from nla.io import atomic_write
from nla.limits import ImageLimits
from nla.text import shown

LEAST_SIDE = 640
"""Photos whose longer side is shorter are enlarged, by a whole number, so that a label fits beside a face."""
LEAST_TEXT, SMALL_TEXT, TEXT = 14, 1 / 80, 1 / 30
"""Height of a label's letters: the smallest in pixels, and the smallest and largest as shares of the picture's shorter
side."""
LINE = 1 / 250
"""Thickness of a box as a share of the picture's longer side; 2 pixels at least."""
QUALITY = 92
"""Of JPEG."""
COLOUR, TEXT_COLOUR, EDGE = (0, 90, 160), (255, 255, 255), (255, 255, 255)
"""Dark blue with a white edge, which shows on dark and on bright photos."""


class Pictures:
    """A folder of pictures, one for each photo."""

    def __init__(self, folder: Path, photos: Sequence[str]) -> None:
        """Raises CommandError if a photo lies in `folder`, as its picture could replace it."""
        target = folder.resolve()
        if inside := next((name for name in photos if Path(name).resolve().parent == target), None):
            raise CommandError(f"--draw: {shown(inside)} lies in this folder, and would be replaced. Name another one.")
        self._folder, self._names = folder, FreeNames()

    def draw(self, photo: PredictedFaces, rows: Sequence[Row], limits: ImageLimits) -> None:
        """Writes the picture of a photo, which is read once more.

        Args:
            photo: the photo.
            rows: a row for each of its faces, with label and confidence.
            limits: those of the photo.

        Raises:
            OSError: it cannot be written.
        """
        pixels = read_photo(photo.image, limits)
        if isinstance(pixels, Problem):  # gone meanwhile
            return
        source = Path(photo.image.path)
        is_jpeg = source.suffix.lower() in (".jpg", ".jpeg")
        path = self._names.take(self._folder / f"{source.stem}{'.jpg' if is_jpeg else '.png'}")
        picture = drawn(pixels, rows if photo.faces else [])
        with atomic_write(path) as part:
            part.write_bytes(encode_jpeg(picture, QUALITY) if is_jpeg else encode_png(picture))

    @contextlib.contextmanager
    def film(self, name: str, rate: float) -> Iterator[Draw]:
        """Yields a function that adds a frame with its rows to the picture of a film, as `drawn_film`.

        Args:
            name: of the film, or the number of a camera.
            rate: frames per second.
        """
        path = self._names.take(self._folder / f"{Path(name).stem}.mp4")
        with drawn_film(path, rate, drawn) as add:
            yield add


def drawn(pixels: Pixels, rows: Sequence[Row]) -> Pixels:
    """A photo, uint8 [H, W] or [H, W, 3], with box, label and confidence of each face; RGB [h, w, 3]."""
    factor = max(1, math.ceil(LEAST_SIDE / max(pixels.shape[:2])))
    rgb = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if pixels.ndim == 2 else pixels
    if factor > 1:
        rgb = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    image = Image.fromarray(rgb)
    draw = ImageDraw.Draw(image)
    boxes = [_corners(row, factor, image.size) for row in rows]
    for box in boxes:
        _frame(draw, box, max(2, round(max(image.size) * LINE)))
    for row, box in zip(rows, boxes, strict=True):  # last, so that no frame crosses a label
        _label(draw, f"{shown(str(row['label']))} {row['confidence']:.0%}", box, image.size)
    return np.asarray(image)


def _corners(row: Row, factor: int, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom in the picture; the whole of it for a crop."""
    if row["left"] is None:
        return 0, 0, size[0] - 1, size[1] - 1
    left, top = row["left"] * factor, row["top"] * factor
    return left, top, left + row["width"] * factor, top + row["height"] * factor


def _frame(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], thick: int) -> None:
    left, top, right, bottom = box
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=EDGE, width=thick + 2)
    draw.rectangle(box, outline=COLOUR, width=thick)


def _label(draw: ImageDraw.ImageDraw, text: str, box: tuple[float, float, float, float], size: tuple[int, int]) -> None:
    """Writes above the box, or in it where there is no room above; as wide as the box, if that is legible."""
    from nla.fonts import font_file  # matplotlib, which takes half a second to import, and not needed for rows

    left, top, right, _ = box
    least, most = max(LEAST_TEXT, round(min(size) * SMALL_TEXT)), round(min(size) * TEXT)
    height = max(least, min(most, round((right - left) / (0.6 * len(text)))))  # letters are about 0.6 as wide as high
    font = ImageFont.truetype(font_file(text), height)
    wide, high = math.ceil(draw.textlength(text, font)), sum(font.getmetrics())
    gap = max(2, height // 5)
    x = min(max(left, 0), max(size[0] - wide - 2 * gap, 0))
    y = top - high - gap if top - high - gap >= 0 else max(top, 0)
    y = min(y, max(size[1] - high - gap, 0))
    draw.rectangle((x, y, x + wide + 2 * gap, y + high + gap // 2), fill=COLOUR)
    draw.text((x + gap, y), text, font=font, fill=TEXT_COLOUR)
