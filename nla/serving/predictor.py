"""Inference with a trained model: encoded images or arrays in; labels, probabilities, confidence and ambiguity out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from nla.data.images import decode, fit
from nla.devices import find_device
from nla.errors import CommandError, DataError, WeightsError
from nla.evaluation.predict import Views, predict
from nla.evaluation.uncertainty import ambiguity, label_probability
from nla.limits import ImageLimits
from nla.models.calibration import Calibration
from nla.models.classifier import Classifier
from nla.models.default_model import chosen_model
from nla.models.fused_resnet import fused
from nla.models.saved_model import WEIGHTS, load_model, weights_file

__all__ = ["BATCH", "WEIGHTS", "Prediction", "Predictor"]

BATCH = 256
"""Images decoded and classified at a time, so that memory does not grow with their number."""

DRAWN_SOURCES = ("synthetic", "drawn")
"""Names of the sources of faces that NLA draws: of images, and of clips."""
DRAWN = "the model has seen drawn faces only: its answer on a photo means nothing"

Precision = Literal["fp32", "bf16"]
"""Arithmetic of the network."""


@dataclass(frozen=True)
class Prediction:
    """Predictions for N images."""

    label: tuple[str, ...]
    """Most probable class of each image, which calibration does not change."""
    probabilities: np.ndarray
    """Calibrated: float32 [N, C], ordered as Predictor.classes."""
    ambiguity: np.ndarray
    """[N]: 1 - (p1 - p2), with p1 and p2 the two largest of `uncalibrated`; 0: certain, 1: a tie."""
    confidence: np.ndarray
    """Calibrated probability of the label, float32 [N]: of many images with 0.8, about 80 % are right, if they are like
    those of validation."""
    uncalibrated: np.ndarray
    """Probabilities of the network, averaged over the views: float32 [N, C]. Equal to `probabilities` if the card has
    no calibration."""

    @classmethod
    def of(cls, p_NC: np.ndarray, classes: Sequence[str], calibration: Calibration) -> Prediction:
        """The predictions that follow from the probabilities of a network, float32 [N, C]."""
        class_N, calibrated_NC = p_NC.argmax(1), calibration.of_array(p_NC)
        confidence_N = label_probability(calibrated_NC, class_N)
        return cls(tuple(classes[c] for c in class_N), calibrated_NC, ambiguity(p_NC), confidence_N, uncalibrated=p_NC)

    def columns(self) -> dict[str, list[Any]]:
        """What a served model answers, by the names of its columns."""
        return {
            "label": list(self.label),
            "probabilities": self.probabilities.tolist(),
            "ambiguity": self.ambiguity.tolist(),
            "confidence": self.confidence.tolist(),
        }

    def split(self, counts: Iterable[int]) -> Iterator[Prediction]:
        """The predictions for the first of the images, the next ones and so on, as many as each of `counts` says."""
        start = 0
        for count in counts:
            rows = slice(start, start := start + count)
            yield Prediction(*(getattr(self, field.name)[rows] for field in fields(self)))


class Predictor:
    """A classifier with its class names, the views that it averages over, its calibration, and its crop of faces.

    `crop` is the field `crop` of its card (docs/faces.md); None if the card has none. On a CPU, predictions come from a
    copy of the classifier that is rewritten for speed when the first image is predicted; weights that are changed later
    have no effect on them. Several threads can use a predictor.
    """

    def __init__(
        self,
        model: Classifier,
        classes: Sequence[str],
        source: str,
        views: Views | None = None,
        limits: ImageLimits | None = None,
        calibration: Calibration | None = None,
        crop: Mapping[str, Any] | None = None,
        precision: Precision = "fp32",
    ) -> None:
        if precision not in get_args(Precision):
            raise CommandError(f"precision: must be one of {', '.join(get_args(Precision))} (got {precision!r}).")
        self.model, self.classes, self.source = model, tuple(classes), source
        self.views, self.limits = views or Views(), limits or ImageLimits()
        self.calibration, self.crop, self.precision = calibration or Calibration(), crop, precision

    @property
    def caution(self) -> str:
        """What must be said with each answer on a photo; empty if nothing."""
        return DRAWN if self.source in DRAWN_SOURCES else ""

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        views: Views | None = None,
        limits: ImageLimits | None = None,
        device: str = "auto",
        precision: Precision = "fp32",
    ) -> Predictor:
        """Loads a weights file and its JSON card, or a folder holding both.

        Args:
            path: weights file, or a folder with model.safetensors and model.json; None for models/ in the current
                folder, or else the model that comes with the package, with a line on standard error that says so.
            views: views to average over; None for those in the card, with which the model was measured and calibrated.
                With others the calibration is an approximation.
            limits: largest encoded image that is decoded; None for 100 megapixels and 50 MB.
            device: `cpu`, `cuda` or `mps`; `auto` is `cuda` if there is such a GPU, else `cpu`.
            precision: `fp32`, with which models are measured and calibrated; or `bf16`, faster on processors and GPUs
                that compute in it, and slower on others. Its probabilities differ by up to some hundredths.

        Raises:
            WeightsError: a file is missing or damaged, or does not match its card; or there is no model.
            ConfigError: the network cannot be built, as without timm.
            CommandError: the device is unknown or not here, or the precision is unknown.
        """
        found = find_device(device)
        model, card = load_model(weights_file(chosen_model(path)))
        model.to(found).set_memory_format(torch.channels_last)
        return cls(
            model,
            card["classes"],
            card["source"],
            views or Views(**card["views"]),
            limits,
            Calibration.of_card(card),
            card.get("crop"),
            precision,
        )

    def predict(self, images: Sequence[bytes] | np.ndarray) -> Prediction:
        """Resizes and converts each image for the model, averages predictions over its views, and calibrates them.

        The views are test-time augmentation.

        Args:
            images: encoded images (PNG, JPEG, BMP, WebP); or uint8 pixels from 0 to 255, as an array [N, H, W] (grey)
                or [N, H, W, 3] (RGB), or as a list of arrays [H, W] or [H, W, 3] of any sizes.

        Raises:
            DataError: an input is not an image, or is too large, or one image is given instead of several; the message
                names the first bad one by its 0-based index.
            WeightsError: the network's probabilities are not finite.
        """
        if isinstance(images, np.ndarray):
            _check_array(images)
        elif isinstance(images, str | bytes | bytearray | memoryview):
            raise DataError(f"images: expected a list of images (got one {type(images).__name__}). Pass [image].")
        starts = range(0, len(images), BATCH)
        return self._prediction(self._probabilities(self.fitted(images[i : i + BATCH], i)) for i in starts)

    def predict_fitted(self, images_NHWC: np.ndarray) -> Prediction:
        """As `predict`, for images that are fitted already.

        Args:
            images_NHWC: uint8, as `fitted` returns them; N can be 0.

        Raises:
            WeightsError: the network's probabilities are not finite.
        """
        return self._prediction([self._probabilities(images_NHWC)])

    def _prediction(self, parts: Iterable[np.ndarray]) -> Prediction:
        """The prediction with these probabilities [n, C], one part after the other."""
        p_NC = np.concatenate([np.empty((0, len(self.classes)), np.float32), *parts])
        if not np.isfinite(p_NC).all():
            raise WeightsError("the network's probabilities are not finite. Train it again, or use another model.")
        return Prediction.of(p_NC, self.classes, self.calibration)

    def _probabilities(self, images_NHWC: np.ndarray) -> np.ndarray:
        bf16 = self.precision == "bf16" and self._network is self.model
        return predict(self._network, images_NHWC, self.views, batch_size=BATCH, bf16=bf16)

    @cached_property
    def _network(self) -> Classifier:
        """The classifier in a faster form that has the precision itself; where there is none, as it is."""
        return fused(self.model, torch.bfloat16 if self.precision == "bf16" else torch.float32) or self.model

    def fitted(self, images: Sequence[bytes | np.ndarray] | np.ndarray, first: int = 0) -> np.ndarray:
        """The images in the size and colour of the model, uint8 [N, H, W, C].

        Args:
            images: as `predict` takes them.
            first: number of the first image, for the message.

        Raises:
            DataError: as `predict`.
        """
        spec = self.model.image
        decoded = (_pixels(image, first + i, self.limits) for i, image in enumerate(images))
        return self.stacked([fit(pixels, spec.size, spec.color) for pixels in decoded])

    def stacked(self, fitted: Sequence[np.ndarray]) -> np.ndarray:
        """Images that have the model's size and colour, uint8 [H, W] or [H, W, 3], as one array [N, H, W, C]."""
        spec = self.model.image
        return np.array(fitted, np.uint8).reshape(len(fitted), spec.size, spec.size, spec.channels)


def _pixels(image: bytes | np.ndarray, row: int, limits: ImageLimits) -> np.ndarray:
    if isinstance(image, np.ndarray):
        _check_pixels(image, 2, f"image {row}", "[H, W] (grey) or [H, W, 3] (RGB)")
        return image
    if not isinstance(image, bytes | bytearray | memoryview):
        raise DataError(f"image {row}: expected bytes (got {type(image).__name__}). Pass the content of an image file.")
    try:
        return decode(bytes(image), limits)
    except DataError as error:
        raise DataError(f"image {row}: {error}. Pass the whole content of a PNG, JPEG, BMP or WebP file.") from None


def _check_array(images: np.ndarray) -> None:
    """Raises DataError unless `images` is a batch. A single RGB image has the shape of grey ones 3 pixels wide."""
    if images.ndim == 2 or (images.ndim == 3 and images.shape[2] == 3):
        got = f"{images.dtype} {list(images.shape)}"
        raise DataError(f"images: expected a batch (got {got}, a single image). Pass image[None].")
    _check_pixels(images, 3, "images", "[N, H, W] (grey) or [N, H, W, 3] (RGB)")


def _check_pixels(pixels: np.ndarray, grey: int, name: str, shapes: str) -> None:
    """Raises DataError unless the pixels are uint8 with `grey` dimensions, or one more for colour, and not empty."""
    shape_fits = pixels.ndim == grey or (pixels.ndim == grey + 1 and pixels.shape[-1] == 3)
    if pixels.dtype != np.uint8 or not shape_fits or 0 in pixels.shape[grey - 2 :]:
        raise DataError(
            f"{name}: expected uint8 {shapes} (got {pixels.dtype} {list(pixels.shape)}). "
            "Convert it, with pixels from 0 to 255."
        )
