"""Both detectors on drawn faces whose places are known."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from photo_parts import overlap, photo

from nla.errors import CommandError
from nla.faces.choice import NAMES, open_detector
from nla.faces.detector import Detector, Face, best_first, shrunk

PLACES = [(40, 60, 150), (380, 40, 110), (250, 300, 130)]


@pytest.mark.parametrize("colour", [True, False])
def test_all_faces_are_found_where_they_are(detector: Detector, colour: bool) -> None:
    faces = detector.detect(photo(640, 480, PLACES, colour))
    assert len(faces) == 3
    for place in PLACES:
        assert max(overlap(face, place) for face in faces) > 0.4, place
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
    assert all((face.landmarks_52 is None) == (detector.name == "dlib") for face in faces)


def test_a_plain_ground_has_no_face(detector: Detector) -> None:
    assert detector.detect(photo(640, 480, [])) == []


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 200), (200, 3), (17, 31)])
def test_images_too_small_for_a_face_have_none(detector: Detector, width: int, height: int) -> None:
    assert detector.detect(photo(width, height, [])) == []


def test_a_huge_photo_gives_boxes_in_its_own_pixels(detector: Detector) -> None:
    """Four times a photo, seen as large as that: so are the boxes, four times as large."""
    small = photo(640, 480, PLACES)
    large = cv2.resize(small, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    found, again = open_detector(detector.name, 640).detect(large), detector.detect(small)
    assert len(found) == len(again) == 3
    for one, other in zip(found, again, strict=True):
        values = [(face.left, face.top, face.width, face.height) for face in (one, other)]
        np.testing.assert_allclose(values[0], np.multiply(values[1], 4), atol=1)


def test_a_face_at_the_edge_is_found_or_not_but_in_no_case_elsewhere(detector: Detector) -> None:
    for left in (-75, -30, 565, 520):
        for face in detector.detect(photo(640, 480, [(left, 150, 150)])):
            assert overlap(face, (left, 150, 150)) > 0.3


def test_the_points_of_yunet_lie_as_in_a_face(detector: Detector) -> None:
    if detector.name == "dlib":
        assert all(face.landmarks_52 is None for face in detector.detect(photo(640, 480, PLACES)))
        return
    (face,) = detector.detect(photo(640, 480, PLACES[:1]))
    assert face.landmarks_52 is not None
    right_eye, left_eye, nose, right_mouth, left_mouth = face.landmarks_52
    assert right_eye[0] < nose[0] < left_eye[0] and right_mouth[0] < left_mouth[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])


def test_threads_get_the_same_faces_as_one_alone(detector: Detector) -> None:
    photos = [photo(320 + 40 * i, 300, [(10 * i, 50, 120)]) for i in range(6)]
    alone = [detector.detect(pixels) for pixels in photos]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, photos * 3)) == alone * 3


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 500))
def test_shrinking_keeps_shape_and_limit(width: int, height: int, longest: int) -> None:
    image, factor = shrunk(np.zeros((height, width), np.uint8), longest)
    assert max(image.shape) == min(longest, max(width, height)) and min(image.shape) >= 1
    assert factor == max(1, max(width, height) / longest)


def test_faces_are_sorted_and_enlarged() -> None:
    points = np.arange(10, dtype=np.float32).reshape(5, 2)
    faces = [Face(5, 1, 2, 3, 0.5), Face(1, 2, 3, 4, 0.9, points), Face(0, 1, 2, 3, 0.5)]
    best, *rest = best_first(faces, 2.5)
    assert best == Face(2.5, 5, 7.5, 10, 0.9) and rest == [Face(0, 2.5, 5, 7.5, 0.5), Face(12.5, 2.5, 5, 7.5, 0.5)]
    assert best.landmarks_52 is not None
    np.testing.assert_array_equal(best.landmarks_52, 2.5 * points)
    assert best.center == (6.25, 10) and best.side == 8.75


def test_another_name_is_an_error() -> None:
    with pytest.raises(CommandError, match=r"no detector has this name \(got 'haar'\)\. Use auto, yunet, dlib\."):
        open_detector("haar")
    assert NAMES == ("auto", "yunet", "dlib")
