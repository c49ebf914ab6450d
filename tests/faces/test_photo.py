"""Which images are crops already, and what is cropped from others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from photo_parts import drawn_face, photo

from nla.data.images import Pixels
from nla.errors import CommandError
from nla.faces import photo as module
from nla.faces.crop import FERPLUS, Crop, crop_face
from nla.faces.detector import Detector, Face
from nla.faces.photo import AS_SMALL, FULL, NONE, SMALL, FaceFinder, fills

EXACT = Crop("dlib", 0.0)


class Scripted:
    """A detector that finds given faces in every image."""

    name = "dlib"

    def __init__(self, *faces: Face) -> None:
        self.faces, self.asked = list(faces), 0

    def detect(self, image_HWC: Pixels) -> list[Face]:
        self.asked += 1
        return self.faces


def finder_of(monkeypatch: pytest.MonkeyPatch, detector: Detector, input_size: int = 48, **options: bool) -> FaceFinder:
    monkeypatch.setattr(module, "open_detector", lambda name: detector)
    return FaceFinder(EXACT, input_size, **options)


def test_faces_of_a_photo_are_cropped_best_first(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = Face(300, 50, 80, 80, 0.9), Face(20, 30, 100, 100, 0.8)
    pixels = photo(640, 480, [])
    found = finder_of(monkeypatch, Scripted(*faces)).find(pixels)
    assert found.faces == faces and found.note == ""
    for face, crop in zip(faces, found.crops, strict=True):
        np.testing.assert_array_equal(crop, crop_face(pixels, face, EXACT))


def test_no_face_has_the_reason_and_no_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    found = finder_of(monkeypatch, Scripted()).find(photo(200, 200, []))
    assert (found.faces, found.crops, found.note) == ((), (), NONE)
    assert "--cropped" in NONE


@pytest.mark.parametrize(("side", "input_size"), [(SMALL, 48), (1, 48), (112, 112)])
def test_an_image_as_small_as_the_input_needs_no_detector(
    monkeypatch: pytest.MonkeyPatch, side: int, input_size: int
) -> None:
    detector = Scripted()
    finder = finder_of(monkeypatch, detector, input_size)
    pixels = np.zeros((side, max(side // 2, 1)), np.uint8)
    found = finder.find(pixels)
    assert found.faces == (None,) and found.note == AS_SMALL and found.crops[0] is pixels
    assert detector.asked == 0 and not finder.is_open
    assert finder.find(np.zeros((side + 64, 65), np.uint8)).note == NONE and finder.is_open


def test_cropped_takes_every_image_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Scripted(Face(10, 10, 50, 50, 1.0))
    found = finder_of(monkeypatch, detector, cropped=True).find(photo(640, 480, []))
    assert found.faces == (None,) and found.note == "" and detector.asked == 0


@pytest.mark.parametrize(
    ("width", "height", "side", "expected"),
    [
        (100, 100, 100, True),
        (100, 100, 78, True),  # .78 squared is .61
        (100, 100, 76, False),
        (100, 100, 128, True),  # 1 / 1.28 squared is .61
        (100, 100, 131, False),
        (110, 100, 100, True),
        (112, 100, 100, False),  # not square
        (100, 112, 100, False),
    ],
)
def test_a_face_fills_a_square_image(width: int, height: int, side: int, expected: bool) -> None:
    face = Face((width - side) / 2, (height - side) / 2, side, side, 1.0)
    assert fills(np.zeros((height, width), np.uint8), face, EXACT) == expected


@given(st.integers(65, 300), st.floats(-200, 300), st.floats(-200, 300), st.floats(5, 400))
def test_filling_is_intersection_over_union(size: int, left: float, top: float, side: float) -> None:
    """By counting: each pixel of a grid over both squares is in one, in both, or in none."""
    image, face = np.zeros((size, size), np.uint8), Face(left, top, side, side, 1.0)
    low, high = min(0, left, top), max(size, left + side, top + side)
    centers = np.linspace(low, high, 801)[:-1] + (high - low) / 1600
    own = (centers >= 0) & (centers < size)
    columns, rows = ((centers >= at) & (centers < at + side) for at in (left, top))
    both = (own & columns).sum() * (own & rows).sum()
    share = both / (own.sum() ** 2 + columns.sum() * rows.sum() - both)
    if abs(share - 0.6) > 0.02:  # what the grid can tell
        assert fills(image, face, EXACT) == (share > 0.6)


def test_two_faces_never_make_a_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = Face(0, 0, 100, 100, 1.0), Face(10, 10, 20, 20, 0.5)
    assert finder_of(monkeypatch, Scripted(*faces)).find(np.zeros((100, 100), np.uint8)).faces == faces
    found = finder_of(monkeypatch, Scripted(faces[0])).find(np.zeros((100, 100), np.uint8))
    assert found.faces == (None,) and found.note == FULL


def test_a_drawn_crop_and_a_drawn_photo(no_weights: object) -> None:
    """By dlib itself: the same face alone, and in the middle of a photo."""
    finder = FaceFinder(None, 48)
    assert finder.find(drawn_face(1, 160)).note == FULL
    found = finder.find(photo(640, 480, [(100, 100, 160)]))
    assert len(found.faces) == 1 and found.faces[0] is not None and found.note == ""
    assert finder.open()[1] == FERPLUS["dlib"]


def test_the_detector_of_the_cards_crop_is_preferred_if_it_is_here(
    no_weights: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(module, "open_detector", lambda name: asked.append(name) or Scripted())
    for crop, detector in ((EXACT, "auto"), (Crop("yunet", 0.1), "auto"), (Crop("yunet", 0.1), "dlib")):
        FaceFinder(crop, 48, detector).open()
    assert asked == ["dlib", "auto", "dlib"]
    with pytest.raises(CommandError, match="aligned by the eyes"):
        FaceFinder(Crop("yunet", 0.1, align=True), 48, "dlib").open()
