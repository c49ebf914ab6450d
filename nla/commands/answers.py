"""Stored images -> what a model says of them, batch by batch: any number of images takes no more memory."""

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
    """An encoded image, in a file or at hand."""

    path: str
    """For people."""
    content: Path | bytes

    def read(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


S = TypeVar("S", bound=Stored)


def answers(predictor: Predictor, stored: Iterable[S], problems: list[Problem]) -> Iterator[tuple[list[S], Prediction]]:
    """Up to BATCH images and what the model says of them, in the order of `stored`.

    A few threads read ahead. Images that cannot be read are left out; `problems` gets them meanwhile.
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
    """The image as the model takes it; the predictor leaves it as it is."""
    try:
        return fit(decode(image.read()), spec.size, spec.color)
    except OSError as error:
        return Problem(image.path, None, f"cannot be read: {error.strerror}")
    except DataError as error:
        return Problem(image.path, None, str(error))
