"""Predictions for stored images, batch by batch, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from nla.data.images import Pixels, decode, fit
from nla.data.sources.base import Problem
from nla.data.sources.pool import in_order
from nla.errors import DataError
from nla.models.classifier import ImageSpec
from nla.serving.predictor import BATCH, Prediction, Predictor


@dataclass(frozen=True)
class Stored:
    """An encoded image, in a file or in memory."""

    path: str
    """Name shown to the user."""
    content: Path | bytes

    def read(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


S = TypeVar("S", bound=Stored)


def answers(predictor: Predictor, stored: Iterable[S], problems: list[Problem]) -> Iterator[tuple[list[S], Prediction]]:
    """Yields up to BATCH images at a time with their predictions, in the order of `stored`.

    A few threads read ahead. Unreadable images are left out and appended to `problems`.
    """
    spec = predictor.model.image
    read: list[tuple[S, Pixels]] = []
    for image, found in in_order(lambda image: (image, fitted(image, spec)), stored, BATCH):
        if isinstance(found, Problem):
            problems.append(found)
            continue
        read.append((image, found))
        if len(read) == BATCH:
            yield _answer(predictor, read)
            read = []
    if read:
        yield _answer(predictor, read)


def _answer(predictor: Predictor, read: list[tuple[S, Pixels]]) -> tuple[list[S], Prediction]:
    images, pixels = zip(*read, strict=True)
    return list(images), predictor.predict(np.stack(pixels))


def fitted(image: Stored, spec: ImageSpec) -> Pixels | Problem:
    """The image fitted to the model's size and colour, as the predictor does itself; or why it is unreadable."""
    try:
        return fit(decode(image.read()), spec.size, spec.color)
    except OSError as error:
        return Problem(image.path, None, f"cannot be read: {error.strerror}")
    except DataError as error:
        return Problem(image.path, None, str(error))
