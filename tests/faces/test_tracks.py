"""Numbers of faces over frames, against assignments written by hand, and their properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.faces.detector import Face
from nla.faces.tracks import LEAST_OVERLAP, MEMORY_SECONDS, Tracker


def face(left: float, top: float = 0.0, side: float = 10.0) -> Face:
    return Face(left, top, side, side, 1.0)


def test_two_people_who_walk_keep_their_numbers() -> None:
    tracker = Tracker()
    assert tracker.numbers([face(0), face(100)], 0.0) == [0, 1]
    assert tracker.numbers([face(97), face(3)], 0.1) == [1, 0], "in the order of the frame"
    assert tracker.numbers([face(94), face(6), face(200)], 0.2) == [1, 0, 2]


def test_a_face_that_is_missing_for_a_moment_keeps_its_number_and_loses_it_after_longer() -> None:
    tracker = Tracker()
    assert tracker.numbers([face(0)], 0.0) == [0]
    assert tracker.numbers([], 0.5) == []
    assert tracker.numbers([face(1)], MEMORY_SECONDS) == [0]
    assert tracker.numbers([face(1)], 2 * MEMORY_SECONDS + 0.01) == [1]


def test_the_largest_overlap_decides() -> None:
    tracker = Tracker()
    tracker.numbers([face(0), face(5)], 0.0)
    assert tracker.numbers([face(4), face(-1)], 0.1) == [1, 0]


def test_a_box_that_overlaps_less_is_another_face() -> None:
    far = 10 * (1 - LEAST_OVERLAP) / (1 + LEAST_OVERLAP)  # shift at which intersection over union is LEAST_OVERLAP
    for shift, expected in ((far - 0.01, [0]), (far + 0.01, [1])):
        tracker = Tracker()
        tracker.numbers([face(0)], 0.0)
        assert tracker.numbers([face(shift)], 0.1) == expected


def test_a_frame_that_is_a_crop_is_one_face() -> None:
    tracker = Tracker()
    assert [tracker.numbers([None], time / 10) for time in range(3)] == [[0], [0], [0]]


boxes = st.builds(face, st.floats(-50, 50), st.floats(-50, 50), st.floats(1, 60))


@given(st.lists(st.lists(boxes, max_size=5), min_size=1, max_size=6))
def test_numbers_differ_within_a_frame_and_are_given_in_order(frames: list[list[Face]]) -> None:
    tracker, seen = Tracker(), -1
    for time, faces in enumerate(frames):
        numbers = tracker.numbers(faces, time / 25)
        assert len(numbers) == len(faces) == len(set(numbers))
        new = sorted(number for number in numbers if number > seen)
        assert new == list(range(seen + 1, seen + 1 + len(new)))
        seen += len(new)


@given(boxes, boxes)
def test_overlap_is_symmetric_and_a_share(a: Face, b: Face) -> None:
    share = a.overlap(b)
    assert 0 <= share <= 1 and share == pytest.approx(b.overlap(a))
    assert a.overlap(a) == pytest.approx(1)
