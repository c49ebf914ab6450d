"""The size that a header states is that of the decoded image, for every format and its variants."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.data.image_header import image_size
from nla.data.images import decode
from nla.errors import DataError
from nla.limits import ImageLimits

FORMATS = {
    "png": (".png", []),
    "png 16 bit": (".png", []),
    "jpeg": (".jpg", []),
    "progressive jpeg": (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "restarts": (".jpg", [cv2.IMWRITE_JPEG_RST_INTERVAL, 1]),
    "bmp": (".bmp", []),
    "lossy webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 50]),
    "lossless webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
    "webp with alpha": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 50]),
}


def encoded(kind: str, width: int, height: int) -> bytes:
    suffix, options = FORMATS[kind]
    channels = 4 if kind == "webp with alpha" else 3
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    _, data = cv2.imencode(suffix, pixels.astype(np.uint16) * 257 if kind == "png 16 bit" else pixels, options)
    return data.tobytes()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (300, 7), (16, 1000)])
def test_the_size_is_that_of_the_decoded_image(kind: str, size: tuple[int, int]) -> None:
    data = encoded(kind, *size)
    assert image_size(data) == size
    assert decode(data).shape[1::-1] == size


def test_a_bmp_from_the_top_and_one_of_os2() -> None:
    data = bytearray(encoded("bmp", 20, 30))
    data[22:26] = (-30).to_bytes(4, "little", signed=True)
    assert image_size(bytes(data)) == (20, 30)
    assert decode(bytes(data)).shape == (30, 20, 3)
    assert image_size(b"BM" + bytes(12) + (12).to_bytes(4, "little") + bytes((20, 0, 30, 0)) + bytes(4)) == (20, 30)


def test_a_jpeg_with_bytes_between_its_segments() -> None:
    """As libjpeg reads it: fill bytes, stray bytes, and a frame's header inside a comment, which is not one."""
    data = encoded("jpeg", 300, 7)
    comment = b"\xff\xfe\x00\x0b\xff\xc0\x00\x11\x08\xff\xff\xff\xff"
    odd = data[:2] + comment + b"stray\xff\xff" + data[2:][1:]
    assert image_size(odd) == (300, 7)
    assert decode(odd).shape == (7, 300, 3)


@pytest.mark.parametrize("kind", FORMATS)
def test_more_than_the_limit_is_not_decoded(kind: str) -> None:
    data = encoded(kind, 40, 30)
    assert decode(data, ImageLimits(1200)).shape == (30, 40, 3)
    with pytest.raises(DataError, match=r"the image has 40 x 30 pixels, more than max_pixels, 1,199\. Shrink it"):
        decode(data, ImageLimits(1199))


@pytest.mark.parametrize("suffix", [".tiff", ".ppm", ".hdr", ".ras", ".gif", ".avif"])
def test_other_formats_are_not_decoded(suffix: str) -> None:
    pixels = np.zeros((8, 8, 3), np.float32 if suffix == ".hdr" else np.uint8)
    done, data = cv2.imencode(suffix, pixels)
    if not done:  # an OpenCV without this format
        return
    with pytest.raises(DataError, match=r"not an image \(PNG, JPEG, BMP or WebP\)"):
        decode(data.tobytes())


@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_damaged_headers_are_an_error_or_a_size(kind: str, draw: st.DataObject) -> None:
    data = bytearray(encoded(kind, 20, 30))
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, min(len(data), 200) - 1))] = draw.draw(st.integers(0, 255))
    try:
        width, height = image_size(bytes(data[: draw.draw(st.integers(0, len(data)))]))
    except DataError:
        return
    assert width > 0 and height > 0
