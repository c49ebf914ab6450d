"""Named augmentation recipes, each a pure function of (image, seed)."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise it queries PyPI for a newer version on import
import albumentations as A

from nla.config.base import nearest
from nla.errors import ConfigError

# Images are too small for threads inside OpenCV, which would only take cores from the training step.
cv2.setNumThreads(0)

MID_GREY = 127.5


def make_augment(recipe: str, *, fill: float | Sequence[float] = MID_GREY) -> Callable[[np.ndarray, int], np.ndarray]:
    """augment(image_HWC uint8, seed >= 0) -> uint8 of the same shape, the same in every process and thread.

    none: the image itself. flip: mirrored half of the time. affine: flip, zoom, shift and rotation. strong: affine,
    light and erasing. released: pixel noise, flip and erasing, as in NLA's public code.

    Args:
        recipe: name of the recipe.
        fill: grey or RGB value (0..255) of erased areas; the public code uses the mean of its data set.

    Raises:
        ConfigError: an unknown recipe.
    """
    if recipe not in _RECIPES:
        raise ConfigError(f"augment.recipe: unknown recipe {recipe!r}{nearest(recipe, tuple(_RECIPES))}")
    values = np.clip(np.round(fill), 0, 255).astype(int).tolist()
    steps = _RECIPES[recipe](tuple(values) if isinstance(values, list) else values)
    return _Seeded(steps) if steps else _unchanged


class Mirror(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no types
    """Left and right exchanged, as A.HorizontalFlip does, without the wrappers that cost more than the flip itself."""

    def apply(self, img: np.ndarray, **_: Any) -> np.ndarray:
        return np.ascontiguousarray(img[:, ::-1])


class Warp(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no types
    """Zoom, rotation and shift by one matrix; areas from outside the image are filled by reflection at the edge.

    zoom: the factor is drawn from 1 -/+ zoom. degrees: the angle from -/+ degrees. shift: along each axis from -/+ that
    fraction of the side. A.Affine does the same at five times the cost (356 against 67 us per image at 48x48x1).
    """

    def __init__(self, zoom: float, degrees: float, shift: float, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.zoom, self.degrees, self.shift = zoom, degrees, shift

    def get_params(self) -> dict[str, float]:
        draw = self.py_random.uniform
        return {
            "factor": draw(1 - self.zoom, 1 + self.zoom),
            "angle": draw(-self.degrees, self.degrees),
            "right": draw(-self.shift, self.shift),
            "down": draw(-self.shift, self.shift),
        }

    def apply(self, img: np.ndarray, factor: float, angle: float, right: float, down: float, **_: Any) -> np.ndarray:
        height, width = img.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, factor)
        matrix[:, 2] += right * width, down * height
        warped = cv2.warpAffine(img, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        return warped.reshape(img.shape)


class PixelNoise(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no types
    """Gaussian noise of `variance` (on the scale 0..255), independent for each pixel and channel, rounded.

    A.GaussNoise truncates towards zero, which leaves a variance of 26 of 30, and has only 65,536 patterns.
    """

    def __init__(self, variance: float, p: float = 0.5) -> None:
        super().__init__(p=p)
        self.deviation = variance**0.5

    def apply(self, img: np.ndarray, **_: Any) -> np.ndarray:
        noise = self.random_generator.standard_normal(img.shape, np.float32) * np.float32(self.deviation)
        noisy: np.ndarray = np.clip(np.rint(img + noise), 0, 255).astype(np.uint8)
        return noisy


class _Seeded:
    """Applies transforms with generators that are reseeded for every image.

    Compose.set_random_seed would give every transform a generator with the same seed: their draws would be equal, and
    no image would be erased that is not mirrored too. All transforms of this class share one pair of generators, whose
    state is reset for each image: about 10 us, against 80 for new generators and 240 for set_random_seed.

    The result is that of Compose, without its checks and bookkeeping: with Mirror, 31 against 39 us per image at
    48x48x1 for the recipe affine. The loader's thread takes a core from the training step meanwhile.
    """

    def __init__(self, transforms: list[A.BasicTransform]) -> None:
        self._transforms = transforms
        self._numpy, self._python = np.random.Generator(np.random.Philox(key=0)), random.Random(0)
        for transform in transforms:
            transform.set_random_state(self._numpy, self._python)
        self._start: Any = self._numpy.bit_generator.state
        self._lock = threading.Lock()

    def __call__(self, image_HWC: np.ndarray, seed: int) -> np.ndarray:
        with self._lock:
            self._start["state"]["key"][0] = seed
            self._numpy.bit_generator.state = self._start
            self._python.seed(seed)
            self._python.random()  # Compose draws whether it applies at all
            for transform in self._transforms:
                if transform.should_apply():
                    image_HWC = _applied(transform, image_HWC)
        return image_HWC


def _applied(transform: A.BasicTransform, image_HWC: np.ndarray) -> np.ndarray:
    """The transformed image, as BasicTransform.__call__ computes it."""
    data = {"image": image_HWC}
    params = transform.update_transform_params(transform.get_params(), data)
    params.update(transform.get_params_dependent_on_data(params, data))
    return np.ascontiguousarray(transform.apply(image_HWC, **params))


def _unchanged(image_HWC: np.ndarray, seed: int) -> np.ndarray:
    return image_HWC


Fill = int | tuple[int, ...]


def _none(fill: Fill) -> list[A.BasicTransform]:
    return []


def _flip(fill: Fill) -> list[A.BasicTransform]:
    return [Mirror(p=0.5)]


def _affine(fill: Fill) -> list[A.BasicTransform]:
    """Usual ranges for aligned 48x48 faces: a face stays in the frame and keeps its expression."""
    return [Mirror(p=0.5), Warp(zoom=0.15, degrees=12, shift=0.08)]


def _strong(fill: Fill) -> list[A.BasicTransform]:
    """affine, light and erasing: for long training, which would otherwise memorise the faces."""
    return [
        *_affine(fill),
        A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
        A.Erasing(scale=(0.02, 0.2), ratio=(0.5, 1.5), fill=fill, p=0.25),
    ]


def _released(fill: Fill) -> list[A.BasicTransform]:
    """Noise of variance 30, flip, and erasing of .02 to .3 of the area.

    The aspect ratio, width over height, is uniform in .3 to 3.3, while torchvision draws its logarithm: these holes
    are wider.
    """
    return [
        PixelNoise(variance=30, p=0.5),
        Mirror(p=0.5),
        A.Erasing(scale=(0.02, 0.3), ratio=(0.3, 3.3), fill=fill, p=0.5),
    ]


_RECIPES: dict[str, Callable[[Fill], list[A.BasicTransform]]] = {
    "none": _none,
    "flip": _flip,
    "affine": _affine,
    "strong": _strong,
    "released": _released,
}
