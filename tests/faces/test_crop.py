"""The crop of a face: against pixels picked one by one, and under shifts, rotation and other detectors."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nla.errors import CommandError, DataError, WeightsError
from nla.faces.crop import FERPLUS, Crop, crop_face, crop_for, read_crop, stated_crop
from nla.faces.detector import Face

RECORD = json.loads((Path(__file__).parents[2] / "benchmarks/records/face-margins.json").read_text())
ALIGNED = Crop("yunet", 0.5, 0.0, align=True)


def picture(height: int, width: int) -> np.ndarray:
    """Every pixel another colour, nearly."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@given(
    st.floats(-60, 100), st.floats(-60, 100), st.floats(1, 90), st.floats(1, 90), st.floats(-0.4, 1), st.floats(-1, 1)
)
def test_every_pixel_is_the_photos_own_or_the_nearest_of_its_edge(
    left: float, top: float, width: float, height: float, margin: float, down: float
) -> None:
    image, face = picture(50, 70), Face(left, top, width, height, 1.0)
    square = crop_face(image, face, Crop("dlib", margin, down))
    size = square.shape[0]
    mean = (width + height) / 2
    assert square.shape == (size, size, 3) and abs(size - mean * (1 + 2 * margin)) <= 1
    x, y = left + width / 2, top + height / 2 + down * mean
    first_column, first_row = round(x - size / 2), round(y - size / 2)
    for row, column in ((0, 0), (size - 1, 0), (size // 2, size - 1)):
        expected = image[min(max(first_row + row, 0), 49), min(max(first_column + column, 0), 69)]
        np.testing.assert_array_equal(square[row, column], expected)


def test_a_crop_inside_is_a_part_of_the_photo() -> None:
    image = picture(100, 100)
    square = crop_face(image, Face(30, 40, 20, 20, 1.0), Crop("yunet", 0.25))
    np.testing.assert_array_equal(square, image[35:65, 25:55])
    np.testing.assert_array_equal(
        crop_face(image[..., 0], Face(30, 40, 20, 20, 1.0), Crop("yunet", 0)), image[40:60, 30:50, 0]
    )
    lower = crop_face(image, Face(30, 40, 20, 20, 1.0), Crop("yunet", 0.25, 0.5))
    np.testing.assert_array_equal(lower, image[45:75, 25:55])


@pytest.mark.parametrize("angle", [-30, -8, 8, 25, 90])
def test_aligned_eyes_are_level_whatever_the_roll(angle: float) -> None:
    """Two bright spots, for the eyes, are drawn along a rolled line, and are found on one row again."""
    image = np.zeros((200, 200), np.uint8)
    roll, middle = math.radians(angle), np.array([100.0, 90.0])
    eyes = [middle + side * 25 * np.array([math.cos(roll), math.sin(roll)]) for side in (-1, 1)]
    for x, y in eyes:
        cv2.circle(image, (round(x), round(y)), 3, 255, -1)
    points = np.array([*eyes, middle, middle, middle], np.float32)
    square = crop_face(image, Face(65, 55, 70, 70, 1.0, points), ALIGNED)
    assert square.shape == (140, 140)
    columns = [np.argwhere(half > 100).mean(0) for half in (square[:, :70], square[:, 70:])]
    assert abs(columns[0][0] - columns[1][0]) < 1.5  # spots have whole pixels
    assert abs(columns[1][1] + 70 - columns[0][1] - 50) < 1.5


def test_level_eyes_or_none_change_nothing() -> None:
    image = picture(100, 120)
    level = np.array([[40, 50], [60, 50], [50, 60], [45, 70], [55, 70]], np.float32)
    plain = crop_face(image, Face(30, 30, 40, 40, 1.0), Crop("yunet", 0.5))
    for face in (Face(30, 30, 40, 40, 1.0, level), Face(30, 30, 40, 40, 1.0)):
        np.testing.assert_array_equal(crop_face(image, face, ALIGNED), plain)


def test_a_rotated_crop_keeps_the_middle() -> None:
    """Rotated by a quarter, a crop is the turned crop, pixel by pixel."""
    image = picture(101, 101)
    points = np.array([[50, 40], [50, 60], [50, 50], [50, 50], [50, 50]], np.float32)  # the person's head lies
    face = Face(30, 30, 40, 40, 1.0, points)
    plain = crop_face(image, face, Crop("yunet", 0))
    turned = crop_face(image, face, Crop("yunet", 0, align=True))
    np.testing.assert_array_equal(turned, np.rot90(plain))


@given(st.floats(-0.2, 1), st.floats(-0.5, 0.5))
def test_the_crop_of_another_detector_and_back_is_the_same(margin: float, down: float) -> None:
    crop = Crop("yunet", margin, down)
    other = crop.for_detector("dlib")
    assume(-0.4 <= other.margin <= 3)
    back = other.for_detector("yunet")
    assert other.detector == "dlib" and back.margin == pytest.approx(margin) and back.down == pytest.approx(down)


def test_detectors_whose_boxes_lie_as_in_ferplus_give_the_same_crop() -> None:
    """A face of FERPlus of 100 pixels at (200, 300), with the box of each detector where the medians have it."""
    crop, squares = Crop("yunet", 0.4, 0.1), []
    for name in ("yunet", "dlib"):
        own = FERPLUS[name]
        side = 100 / (1 + 2 * own.margin)
        face = Face(250 - side / 2, 350 - own.down * side - side / 2, side, side, 1.0)
        assert own.square(face) == pytest.approx((250, 350, 100))
        squares.append(crop.for_detector(name).square(face))
    assert squares[0] == pytest.approx(squares[1])


@pytest.mark.parametrize("name", ["yunet", "dlib"])
def test_the_default_is_what_was_measured(name: str) -> None:
    measured, crop = RECORD["detectors"][name], FERPLUS[name]
    assert (crop.margin, crop.down) == (round(measured["margin"], 2), round(measured["down"], 2))
    low, middle, high = measured["side"]
    assert low < middle < high and measured["margin"] == pytest.approx((1 / middle - 1) / 2, abs=1e-3)
    assert measured["down"] == pytest.approx((0.5 - measured["y"][1]) / middle, abs=1e-3)
    assert measured["found"] > 0.7 * RECORD["n"]


def test_dlib_cannot_align() -> None:
    with pytest.raises(CommandError, match=r"aligned by the eyes, which dlib does not give\. Use yunet"):
        ALIGNED.for_detector("dlib")


def test_a_card_without_the_field_has_the_crop_of_ferplus() -> None:
    assert stated_crop(None) is None
    assert crop_for(None, "dlib") == FERPLUS["dlib"]
    stated = stated_crop({"detector": "yunet", "margin": 0.3, "down": 0.0, "align": True})
    assert stated == Crop("yunet", 0.3, 0.0, True) and crop_for(stated, "yunet") == stated


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ({"detector": "haar", "margin": 0.1}, "detector: must be 'yunet' or 'dlib'"),
        ({"detector": "dlib"}, "margin: field required"),
        ({"detector": "dlib", "margin": "0.1"}, "margin: must be a valid number"),
        ({"detector": "dlib", "margin": -0.5}, "margin: must be greater than or equal to -0.4"),
        ({"detector": "dlib", "margin": 0.1, "scale": 2}, "scale: "),
        ([], "must be an object"),
    ],
)
def test_a_field_that_is_no_crop_is_named(field: Any, problem: str) -> None:
    with pytest.raises(WeightsError) as caught:
        stated_crop(field)
    assert str(caught.value).startswith(f"the model's card: crop: {problem}")


def test_crops_are_read_from_files(tmp_path: Path) -> None:
    path = tmp_path / "crop.json"
    path.write_text('{"detector": "dlib", "margin": 0.2, "down": 0.1, "align": false}')
    assert read_crop(path) == Crop("dlib", 0.2, 0.1)
    path.write_text('{"detector": "dlib"}')
    with pytest.raises(DataError, match=r"crop\.json: margin: field required.*`nla crop`"):
        read_crop(path)
