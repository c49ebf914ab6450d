"""Images as arrays, uint8, grey [H, W] or RGB [H, W, 3]: decoding, encoding, hashing, resizing, pixel statistics."""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from nla.data.image_header import BMP, JPEG, PNG, WEBP, image_size
from nla.errors import DataError
from nla.io import regular
from nla.limits import ImageLimits

# `decode` reports errors; OpenCV would report them again, without the file name.
_set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # OpenCV 4, OpenCV 5
_set_log_level(0)

Pixels = np.ndarray
"""uint8, [H, W] or [H, W, 3]."""
DEFAULT = ImageLimits()

SCAN, END = b"\xda", b"\xff\xd9"  # JPEG markers: start of the pixels, and end of the image
MISSING = 128
"""Grey and each colour of what a JPEG lacks, as decoders fill it in."""
NOISE = bytes(random.Random(0).choices(range(255), k=64))  # without the byte that begins a marker
MORE = NOISE + b"".join(bytes([0xFF, restart]) + NOISE for restart in range(0xD0, 0xD8))
"""Pixels of a JPEG, whatever restart marker it waits for."""

SLICE = 1000
"""Images counted at a time: np.bincount copies its input to int64."""


def read_image_file(path: Path, limits: ImageLimits = DEFAULT) -> bytes:
    """The encoded image in a file.

    Raises:
        OSError: it cannot be read, or is no regular file.
        DataError: it is larger than `limits` permit; it is not read then.
    """
    check_bytes(regular(path).stat().st_size, limits)
    return path.read_bytes()


def check_bytes(size: int, limits: ImageLimits) -> None:
    """Raises DataError if an encoded image of `size` bytes is larger than `limits` permit."""
    if size > limits.max_bytes:
        raise DataError(f"the file has {size:,} bytes, more than max_image_bytes, {limits.max_bytes:,}. Shrink it")


def check_pixels(width: int, height: int, limits: ImageLimits, what: str = "the image") -> None:
    """Raises DataError if an image of this size has more pixels than `limits` permit."""
    if width * height > limits.max_pixels:
        raise DataError(
            f"{what} has {width:,} x {height:,} pixels, more than max_pixels, {limits.max_pixels:,}. Shrink it"
        )


def decode(data: bytes, limits: ImageLimits = DEFAULT) -> Pixels:
    """Decodes a PNG, JPEG, BMP or WebP: [H, W] for a grey file, else RGB [H, W, 3], without alpha.

    Higher bit depths are converted to 8 bits, and photographs are rotated upright by their EXIF orientation.

    Raises:
        DataError: the data are truncated, damaged or no image of these formats, even if a decoder would fill in what is
            missing; or it is larger than `limits` permit, by its length or its header.
    """
    if not data:
        raise DataError("the file is empty")
    check_bytes(len(data), limits)
    width, height = image_size(data)
    check_pixels(width, height, limits)
    for signature, check in _CHECKS.items():
        if data.startswith(signature):
            check(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR)
    except cv2.error as error:
        raise DataError(f"the image cannot be decoded: {error.err}") from None
    if pixels is None:
        raise DataError("the file is damaged or not an image")
    if data.startswith(JPEG) and _ends_in_missing(data, pixels, min(height, width)):
        raise DataError("the JPEG is cut off")
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def encode_png(pixels: Pixels) -> bytes:
    """Lossless PNG of grey [H, W] or RGB [H, W, 3]."""
    _, data = cv2.imencode(".png", pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """JPEG of grey [H, W] or RGB [H, W, 3]; `quality` from 0 to 100."""
    ordered = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", ordered, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def pixel_hash(pixels: Pixels) -> bytes:
    """BLAKE2b-128 of shape and pixels: equal exactly for identical images, whatever their file format."""
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def fit(pixels: Pixels, size: int, color: Literal["grey", "rgb"]) -> Pixels:
    """`pixels` as [size, size] grey or [size, size, 3] RGB; returned unchanged if they fit already.

    Images that are not square are stretched. Sides are shrunk by area averaging, and enlarged by bicubic interpolation.
    """
    if color == "grey" and pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    height, width = pixels.shape[:2]
    if max(height, width) > size:
        pixels = cv2.resize(pixels, (min(width, size), min(height, size)), interpolation=cv2.INTER_AREA)
    if min(height, width) < size:
        pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_CUBIC)
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if color == "rgb" and pixels.ndim == 2 else pixels


def pixel_statistics(images_NHWC: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) per channel on the scale 0..1, exact, from histograms of the uint8 values."""
    values = np.arange(256) / 255
    means, stds = [], []
    for count_256 in _histograms(images_NHWC):
        share = count_256 / count_256.sum()
        mean = float(share @ values)
        means.append(mean)
        stds.append(max(float(np.sqrt(share @ (values - mean) ** 2)), 1 / 255))  # constant images: no division by 0
    return tuple(means), tuple(stds)


def _histograms(images_NHWC: np.ndarray) -> np.ndarray:
    """Number of pixels per channel and value, [C, 256]; in slices, because the images can be a mapped file."""
    channels = images_NHWC.shape[3]
    count_C256 = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images_NHWC), SLICE):
        part = np.asarray(images_NHWC[start : start + SLICE])
        for channel in range(channels):
            count_C256[channel] += np.bincount(part[..., channel].ravel(), minlength=256)
    return count_C256


def _check_png(data: bytes) -> None:
    """Checks that every chunk is complete with a valid checksum, up to IEND (PNG specification, section 5.3)."""
    at, kind = len(PNG), b""
    while kind != b"IEND":
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if at + 12 > len(data) or end > len(data):
            raise DataError("the PNG is cut off")
        kind = data[at + 4 : at + 8]
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise DataError("the PNG is damaged (wrong checksum)")
        at = end


def _check_jpeg(data: bytes) -> None:
    """Checks for an end marker after the first scan (ITU-T T.81, annex B)."""
    if _scan_end(data) < 0:
        raise DataError("the JPEG is cut off")


def _scan_end(data: bytes) -> int:
    """Position of the end marker after the first scan, -1 without; one in the header belongs to a thumbnail."""
    at = 2
    while data[at : at + 1] == b"\xff" and (marker := data[at + 1 : at + 2]) != SCAN:
        filler = marker == b"\xff"  # any number of fill bytes can precede a marker
        at += 1 if filler else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(END, at)


def _ends_in_missing(data: bytes, pixels: Pixels, shortest: int) -> bool:
    """Whether the pixels of a JPEG end before its end marker, which some programs append to a file that was cut off.

    The decoder fills the rest with mid-grey. If a corner is (upright, the last block can be in any), more bytes before
    the marker tell: a complete image ignores them.
    """
    side = min(4, (shortest - 1) % 8 + 1)  # of the last block of 8 x 8, a part without the colours of the one before
    ends = slice(0, side), slice(-side, None)
    if not any((pixels[rows, columns] == MISSING).all() for rows in ends for columns in ends):
        return False
    end = _scan_end(data)
    longer = data[:end] + MORE + data[end:]
    again = cv2.imdecode(np.frombuffer(longer, np.uint8), cv2.IMREAD_ANYCOLOR)
    return again is None or not np.array_equal(again, pixels)


def _check_bmp(data: bytes) -> None:
    if len(data) < int.from_bytes(data[2:6], "little"):
        raise DataError("the BMP is cut off")


def _check_webp(data: bytes) -> None:
    if len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise DataError("the WebP is cut off")


_CHECKS: dict[bytes, Callable[[bytes], None]] = {
    PNG: _check_png,
    JPEG: _check_jpeg,
    BMP: _check_bmp,
    WEBP: _check_webp,
}
