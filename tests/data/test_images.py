"""Decoding must not fill up what is missing; identical pixels and nothing else have identical hashes."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nla.data.images import decode, encode_png, fit, pixel_hash
from nla.errors import DataError

SMOOTH = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8), (0, 0), 2)
IMAGES = st.one_of(
    arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12))),
    arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3))),
)


def encoded(suffix: str, *options: int) -> bytes:
    return cv2.imencode(suffix, cv2.cvtColor(SMOOTH, cv2.COLOR_RGB2BGR), options)[1].tobytes()


FILES = {
    "png": encoded(".png"),
    "jpeg": encoded(".jpg"),
    "progressive jpeg": encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "bmp": encoded(".bmp"),
    "webp": encoded(".webp"),
}


@given(IMAGES)
def test_png_is_lossless(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(decode(encode_png(pixels)), pixels)


@pytest.mark.parametrize("kind", FILES)
def test_colours_are_in_rgb_order(kind: str) -> None:
    pixels = decode(FILES[kind])
    assert pixels.shape == SMOOTH.shape and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - SMOOTH).mean() < 8  # of JPEG; swapped channels are 20 or more apart
    assert np.abs(pixels[..., ::-1].astype(int) - SMOOTH).mean() > 8


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_anywhere_is_an_error(kind: str) -> None:
    whole = FILES[kind]
    for length in {*range(1, len(whole), max(1, len(whole) // 50)), len(whole) - 2, len(whole) - 1}:
        with pytest.raises(DataError):
            decode(whole[:length])


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_file_whose_end_was_never_written_is_an_error(kind: str) -> None:
    whole = FILES[kind]
    with pytest.raises(DataError, match=r"cut off|damaged"):
        decode(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.9])
@pytest.mark.parametrize("size", [(90, 75), (64, 64), (161, 47)])
@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2), (cv2.IMWRITE_JPEG_QUALITY, 30)])
@pytest.mark.parametrize("color", [True, False])
def test_an_end_marker_does_not_make_a_cut_jpeg_whole(
    kept: float, size: tuple[int, int], options: tuple[int, ...], color: bool
) -> None:
    """The decoder fills the rest with grey, and tells nobody but the standard error."""
    pixels = cv2.resize(SMOOTH, size) if color else cv2.resize(SMOOTH[..., 0], size)
    data = cv2.imencode(".jpg", pixels, options)[1].tobytes()
    decode(data)
    start = data.index(b"\xff\xda") + 14
    cut = data[: start + int(kept * (len(data) - start - 2))].rstrip(b"\xff") + b"\xff\xd9"
    with pytest.raises(DataError, match="the JPEG is cut off"):
        decode(cut)
    with pytest.raises(DataError, match="the JPEG is cut off"):
        decode(cut + b"rubbish")


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (17, 31), (48, 48), (48, 48, 3), (33, 40, 3)])
@pytest.mark.parametrize("progressive", [0, 1])
def test_a_whole_jpeg_may_be_of_the_grey_of_what_is_missing(shape: tuple[int, ...], progressive: int) -> None:
    pixels = np.full(shape, 128, np.uint8)
    data = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_PROGRESSIVE, progressive))[1].tobytes()
    np.testing.assert_array_equal(decode(data), pixels)
    np.testing.assert_array_equal(decode(data + b"rubbish"), pixels)


def test_a_damaged_png_is_an_error() -> None:
    damaged = bytearray(FILES["png"])
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(DataError, match="checksum"):
        decode(bytes(damaged))


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_photograph() -> None:
    whole, thumbnail = FILES["jpeg"], b"Exif\0\0" + FILES["jpeg"]
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    photograph = whole[:2] + segment + whole[2:]
    np.testing.assert_array_equal(decode(photograph), decode(whole))
    with pytest.raises(DataError, match="the JPEG is cut off"):
        decode(photograph[:-200])


def test_rubbish_after_the_end_of_a_jpeg_is_let_be() -> None:
    np.testing.assert_array_equal(decode(FILES["jpeg"] + b"\0" * 30), decode(FILES["jpeg"]))


@pytest.mark.parametrize("data", [b"", b"no image at all", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xff"])
def test_what_is_no_image_is_an_error(data: bytes) -> None:
    with pytest.raises(DataError):
        decode(data)


def test_nothing_is_printed_beside_the_error(capfd: pytest.CaptureFixture[str]) -> None:
    for whole in FILES.values():
        with pytest.raises(DataError):
            decode(whole[: len(whole) // 2])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("stored", "shape"),
    [
        (np.full((5, 4), 40_000, np.uint16), (5, 4)),
        (np.full((5, 4, 3), 40_000, np.uint16), (5, 4, 3)),
        (np.full((5, 4, 4), 200, np.uint8), (5, 4, 3)),
    ],
)
def test_depth_and_alpha_are_brought_to_eight_bits_of_colour(stored: np.ndarray, shape: tuple[int, ...]) -> None:
    pixels = decode(cv2.imencode(".png", stored)[1].tobytes())
    assert pixels.shape == shape and pixels.dtype == np.uint8


@given(IMAGES, IMAGES)
def test_hashes_are_equal_exactly_for_equal_images(one: np.ndarray, other: np.ndarray) -> None:
    equal = one.shape == other.shape and bool((one == other).all())
    assert (pixel_hash(one) == pixel_hash(other)) == equal
    assert pixel_hash(one) == pixel_hash(one.copy(order="F")) and len(pixel_hash(one)) == 16


def test_hash_knows_the_shape() -> None:
    flat = np.zeros(36, np.uint8)
    assert len({pixel_hash(flat.reshape(shape)) for shape in [(6, 6), (4, 9), (9, 4), (3, 4, 3), (4, 3, 3)]}) == 5


@pytest.mark.parametrize(("pixels", "color"), [(SMOOTH[:30], "rgb"), (SMOOTH[:30, :, 0], "grey")])
def test_an_image_that_fits_is_returned_as_it_is(pixels: np.ndarray, color: str) -> None:
    assert fit(pixels, 30, color) is pixels


@given(IMAGES, st.integers(1, 16), st.sampled_from(["grey", "rgb"]))
def test_fit_gives_the_asked_shape(pixels: np.ndarray, size: int, color: str) -> None:
    fitted = fit(pixels, size, color)
    assert fitted.shape == ((size, size) if color == "grey" else (size, size, 3)) and fitted.dtype == np.uint8


@given(st.integers(0, 255), st.integers(1, 12), st.integers(1, 12), st.integers(1, 16))
def test_fit_keeps_an_even_grey(value: int, height: int, width: int, size: int) -> None:
    assert (fit(np.full((height, width), value, np.uint8), size, "rgb") == value).all()


def test_shrinking_averages_by_area() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (12, 12), np.uint8)
    mean = pixels.reshape(4, 3, 4, 3).mean(axis=(1, 3))
    assert np.abs(fit(pixels, 4, "grey") - mean).max() <= 0.5 + 1e-6


def test_grey_weighs_the_colours_by_luma() -> None:
    red, green, blue = (fit(np.eye(3, dtype=np.uint8)[i].reshape(1, 1, 3) * 200, 1, "grey")[0, 0] for i in range(3))
    assert [red, green, blue] == [round(200 * weight) for weight in (0.299, 0.587, 0.114)]  # ITU-R BT.601
