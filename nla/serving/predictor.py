"""Inference with a trained model: encoded images or arrays in; labels, probabilities and ambiguity out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nla.data.images import decode, fit
from nla.errors import DataError
from nla.evaluation.predict import Views, predict
from nla.evaluation.uncertainty import ambiguity
from nla.models.classifier import Classifier
from nla.models.saved_model import load_model

WEIGHTS = "model.safetensors"
BATCH = 256
"""Images decoded and classified at a time, so that memory does not grow with their number."""


@dataclass(frozen=True)
class Prediction:
    """Predictions for N images."""

    label: tuple[str, ...]
    """Most probable class of each image."""
    probabilities: np.ndarray
    """float32 [N, C], ordered as Predictor.classes."""
    ambiguity: np.ndarray
    """[N]: 1 - (p1 - p2) of the two largest probabilities; 0 is certain, 1 a tie."""


class Predictor:
    """A classifier with its class names, and the views of an image that it averages over."""

    def __init__(self, model: Classifier, classes: Sequence[str], source: str, views: Views | None = None) -> None:
        self.model, self.classes, self.source, self.views = model, tuple(classes), source, views or Views()

    @classmethod
    def load(cls, path: Path | str, views: Views | None = None) -> Predictor:
        """Loads models/model.safetensors with the card beside it, or the folder of both; onto a GPU if there is one.

        Args:
            path: the weights file, or its folder.
            views: other views than those of the card, which the model was measured with.

        Raises:
            WeightsError: a file is missing or damaged, or does not match its card.
        """
        path = Path(path)
        model, card = load_model(path / WEIGHTS if path.is_dir() else path)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model.to(device), card["classes"], card["source"], views or Views(**card["views"]))

    def predict(self, images: Sequence[bytes] | np.ndarray) -> Prediction:
        """Predicts from each image, fitted to the model's size and colour, by the mean over its views, in float32.

        Args:
            images: encoded images (PNG, JPEG, BMP, WebP), or uint8 pixels [N, H, W] grey or [N, H, W, 3] RGB.

        Raises:
            DataError: an input is not an image; the message names the first one, counted from 0.
        """
        if isinstance(images, np.ndarray):
            _check_pixels(images)
        parts = [self._probabilities(images, start) for start in range(0, len(images), BATCH)]
        p_NC = np.concatenate([np.empty((0, len(self.classes)), np.float32), *parts])
        return Prediction(tuple(self.classes[c] for c in p_NC.argmax(1)), p_NC, ambiguity(p_NC))

    def _probabilities(self, images: Sequence[bytes] | np.ndarray, start: int) -> np.ndarray:
        spec = self.model.image
        batch = images[start : start + BATCH]
        fitted = [fit(_pixels(image, start + i), spec.size, spec.color) for i, image in enumerate(batch)]
        images_NHWC = np.stack(fitted).reshape(len(fitted), spec.size, spec.size, spec.channels)
        return predict(self.model, images_NHWC, self.views, batch_size=BATCH)


def _pixels(image: bytes | np.ndarray, row: int) -> np.ndarray:
    if isinstance(image, np.ndarray):
        return image
    if not isinstance(image, bytes | bytearray | memoryview):
        raise DataError(f"image {row} is {type(image).__name__}, not bytes: give the content of an image file")
    try:
        return decode(bytes(image))
    except DataError as error:
        raise DataError(f"image {row}: {error}: give the content of a whole PNG, JPEG, BMP or WebP file") from None


def _check_pixels(images: np.ndarray) -> None:
    shape_fits = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if images.dtype != np.uint8 or not shape_fits or 0 in images.shape[1:]:
        raise DataError(
            f"pixels are {images.dtype} {list(images.shape)}: give uint8 [N, H, W] grey or [N, H, W, 3] RGB, 0 to 255"
        )
