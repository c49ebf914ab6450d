"""Samples from arrays or image files, for training from Python without the tables of the pipeline.

Legend: N samples, C classes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from nla.config.base import nearest
from nla.data.images import decode, fit, pixel_hash, read_image_file
from nla.data.sample_plan import SPLIT, stratified_split
from nla.data.samples import Samples
from nla.errors import DataError
from nla.hardware import cores

Color = Literal["grey", "rgb"]
SOURCE = "custom"
"""Name of the data set in the model's card; tables have the name of their source."""
SMALLEST, LARGEST = 16, 512
"""Sides of images in pixels, as for data.image_size."""
SUM_TOLERANCE = 1e-3
"""Deviation from 1 up to which the sum of a distribution is taken for rounding, for example of float16."""


def make_samples(
    images: Any,
    labels: Any,
    classes: Sequence[str] | None = None,
    *,
    image_size: int | None = None,
    color: Color | None = None,
    name: str = "train",
) -> Samples:
    """Returns the samples of images with their labels.

    Args:
        images: uint8 array [N, H, W], or [N, H, W, C] with 1 or 3 channels (RGB); or a sequence in which each item is
            the path of an image file, its content as bytes, or a uint8 array.
        labels: N class indices, N class names, or N distributions over the classes, [N, C].
        classes: names of the classes, in the order of the indices. None: the sorted class names, or for indices and
            distributions "0", "1" and so on.
        image_size: side of the square to which images are resized; None if all are squares of one size already.
        color: channels to convert to; None means rgb if any image has three channels.
        name: name of the samples, for messages.

    Raises:
        DataError: an image or label is not as described; the message names the first one, counted from 0.
    """
    images_NHWC = _image_array(images, image_size, color, f"{name} images")
    label_N, target_NC, known = _label_arrays(labels, len(images_NHWC), classes, f"{name} labels")
    return Samples(images_NHWC, label_N, target_NC, np.arange(len(label_N)), known, SOURCE)


def hold_out(samples: Samples, fraction: float, seed: int) -> tuple[Samples, Samples]:
    """Splits samples into a training part and a validation part, with `fraction` of the images of every class.

    Identical images stay on one side. A class of two or more different images has at least one on either side.

    Raises:
        DataError: the fraction is not between 0 and 1, or no class has two different images.
    """
    if not 0 < fraction < 1:
        raise DataError(f"valid_fraction: must be between 0 and 1 (got {fraction}). Use 0.1, for example.")
    numbers: dict[bytes, int] = {}
    image_N = np.array([numbers.setdefault(pixel_hash(image), len(numbers)) for image in samples.images_NHWC])
    rng = np.random.default_rng((seed, SPLIT))
    is_valid_N = stratified_split(samples.label_N, image_N, fraction, rng)
    if not is_valid_N.any():
        raise DataError(f"train: no class has two different images (got {len(samples)} images). Add images, or valid.")
    return _rows(samples, np.flatnonzero(~is_valid_N)), _rows(samples, np.flatnonzero(is_valid_N))


def _rows(samples: Samples, row_M: np.ndarray) -> Samples:
    target_NC = samples.target_NC
    return replace(
        samples,
        images_NHWC=samples.images_NHWC[row_M],
        label_N=samples.label_N[row_M],
        target_NC=None if target_NC is None else target_NC[row_M],
        row_N=samples.row_N[row_M],
    )


def _image_array(images: Any, size: int | None, color: Color | None, key: str) -> np.ndarray:
    """uint8 [N, H, H, C]."""
    if size is not None and not SMALLEST <= size <= LARGEST:
        raise DataError(f"image_size: must be {SMALLEST} to {LARGEST} pixels (got {size}). Use 48, for example.")
    if color not in (None, *get_args(Color)):
        raise DataError(f"color: unknown (got {color!r}). Use grey or rgb.")
    is_array = hasattr(images, "__array__")
    pixels = np.asarray(images) if is_array else _read_all(images, key)
    if not len(pixels):
        raise DataError(f"{key}: empty (got 0 images). Pass at least two of each class.")
    if isinstance(pixels, np.ndarray):
        _check_array(pixels, key)
        if size is None and color is None and pixels.shape[1] == pixels.shape[2]:
            return _check_side(pixels.reshape(*pixels.shape[:3], -1), key)  # a view: nothing is copied
    return _check_side(_stack(pixels, size, color, key), key)


def _check_array(pixels: np.ndarray, key: str) -> None:
    got = f"(got {pixels.dtype} {list(pixels.shape)})"
    if pixels.ndim not in (3, 4) or 0 in pixels.shape or (pixels.ndim == 4 and pixels.shape[3] not in (1, 3)):
        raise DataError(f"{key}: expected [N, H, W], or [N, H, W, C] with 1 or 3 channels {got}. Reshape or transpose.")
    if pixels.dtype != np.uint8:
        raise DataError(f"{key}: expected uint8 in 0..255 {got}. Convert them, as in (255 * images).astype('uint8').")


def _check_side(images_NHWC: np.ndarray, key: str) -> np.ndarray:
    side = images_NHWC.shape[1]
    if not SMALLEST <= side <= LARGEST:
        raise DataError(f"{key}: sides must be {SMALLEST} to {LARGEST} pixels (got {side}). Set image_size.")
    return images_NHWC


def _read_all(images: Any, key: str) -> list[np.ndarray]:
    """Pixels of each item of a sequence."""
    if isinstance(images, str | bytes | Path) or not isinstance(images, Sequence):
        kind = type(images).__name__
        raise DataError(f"{key}: expected an array, or a sequence of images (got {kind}). Pass a list of paths.")
    with ThreadPoolExecutor(cores()) as pool:  # decoding releases the GIL
        return list(pool.map(lambda i: _read(images[i], f"{key}: image {i}"), range(len(images))))


def _read(image: Any, key: str) -> np.ndarray:
    """Pixels of one image, [H, W] or [H, W, 3]."""
    if hasattr(image, "__array__"):
        pixels = np.asarray(image)
        _check_array(pixels[None], key)
        return pixels[..., 0] if pixels.shape[2:] == (1,) else pixels
    if not isinstance(image, str | Path | bytes):
        kind = type(image).__name__
        raise DataError(f"{key}: expected a path, encoded bytes or a uint8 array (got {kind}). Convert it.")
    try:
        return decode(image if isinstance(image, bytes) else read_image_file(Path(image)))
    except (DataError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        origin = f"{len(image)} bytes" if isinstance(image, bytes) else image
        raise DataError(f"{key}: {reason} (got {origin}). Pass a whole PNG, JPEG, BMP or WebP file.") from None


def _stack(images: Sequence[np.ndarray] | np.ndarray, size: int | None, color: Color | None, key: str) -> np.ndarray:
    """Fits all images to one size and colour, [N, H, H, C]."""
    pixels = [image[..., 0] if image.shape[2:] == (1,) else image for image in images]
    if size is None:
        sizes = sorted({image.shape[:2] for image in pixels})
        if len(sizes) > 1 or sizes[0][0] != sizes[0][1]:
            shown = ", ".join(f"{height} x {width}" for height, width in sizes[:3])
            raise DataError(f"{key}: expected squares of one size (got {shown}). Set image_size to resize them.")
        size = sizes[0][0]
    color = color or ("rgb" if any(image.ndim == 3 for image in pixels) else "grey")
    return np.stack([fit(image, size, color) for image in pixels]).reshape(len(pixels), size, size, -1)


def _label_arrays(
    labels: Any, count: int, classes: Sequence[str] | None, key: str
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Indices int64 [N], distributions float32 [N, C] or None, and the names of the classes."""
    try:
        array = np.asarray(labels)
    except ValueError:  # rows of different lengths
        raise DataError(f"{key}: rows of different lengths. Pass one index, name or distribution per image.") from None
    if array.ndim not in (1, 2) or len(array) != count:
        raise DataError(f"{key}: expected one per image, {count} (got shape {list(array.shape)}). Pass as many.")
    if array.ndim == 2:
        target_NC = _distributions(array, classes, key)
        known = _class_names(classes or range(target_NC.shape[1]))
        return target_NC.argmax(axis=1).astype(np.int64), target_NC, known
    if array.dtype.kind in "UO" and all(isinstance(name, str) for name in array):
        known = _class_names(classes or sorted(set(array.tolist())))
        return _indices_of_names(array, known, key), None, known
    if array.dtype.kind not in "iu":
        raise DataError(f"{key}: expected class indices or names (got {array.dtype}). Convert them, as in astype(int).")
    known = _class_names(classes or range(int(array.max()) + 1))
    if wrong := np.flatnonzero((array < 0) | (array >= len(known))).tolist():
        got = f"(got {array[wrong[0]]} for image {wrong[0]})"
        raise DataError(f"{key}: expected 0 to {len(known) - 1} {got}. Correct it, or name all classes.")
    return array.astype(np.int64), None, known


def _class_names(classes: Sequence[Any]) -> tuple[str, ...]:
    names = tuple(map(str, classes))
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"classes: duplicate name (got {duplicates[0]!r} twice). Name each class once.")
    if len(names) < 2:
        raise DataError(f"classes: at least two are needed (got {', '.join(names) or 'none'}). Add images of another.")
    return names


def _indices_of_names(names: np.ndarray, classes: tuple[str, ...], key: str) -> np.ndarray:
    index = {name: i for i, name in enumerate(classes)}
    for i, name in enumerate(names.tolist()):
        if name not in index:
            raise DataError(f"{key}: unknown class for image {i} (got {name!r}){nearest(name, classes)}")
    return np.array([index[name] for name in names.tolist()], np.int64)


def _distributions(rows_NC: np.ndarray, classes: Sequence[str] | None, key: str) -> np.ndarray:
    """Checked distributions, float32 [N, C]."""
    if classes is not None and rows_NC.shape[1] != len(classes):
        got = f"(got {rows_NC.shape[1]})"
        raise DataError(f"{key}: expected a distribution over {len(classes)} classes {got}. Correct them, or classes.")
    if rows_NC.dtype.kind != "f":
        raise DataError(f"{key}: expected distributions of floats (got {rows_NC.dtype}). Divide votes by their sum.")
    sum_N = rows_NC.sum(axis=1, dtype=np.float64)
    is_fine_N = (rows_NC >= 0).all(axis=1) & (np.abs(sum_N - 1) <= SUM_TOLERANCE)  # NaN fails both
    if wrong := np.flatnonzero(~is_fine_N).tolist():
        got = f"(got {rows_NC[wrong[0]].tolist()} for image {wrong[0]})"
        raise DataError(f"{key}: each distribution must be non-negative and sum to 1 {got}. Divide it by its sum.")
    return rows_NC.astype(np.float32)
