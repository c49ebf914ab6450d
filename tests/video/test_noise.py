"""Wrong labels of frames and of segments: exact, seeded, nested, and where they should be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.data.synthetic_noise import flip_labels
from nla.errors import DataError
from nla.video.noise import flip_units, units

CLASSES = 4


def clips(seed: int, videos: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels in stretches, video and frame number of each frame; some frames are missing."""
    rng = np.random.default_rng(seed)
    label, video, frame = [], [], []
    for number in range(videos):
        lengths = rng.integers(1, 20, 6)
        stretch = np.repeat(rng.integers(0, CLASSES, 6), lengths)
        present = np.flatnonzero(rng.random(len(stretch)) < 0.95) if number % 2 else np.arange(len(stretch))
        label.append(stretch[present])
        frame.append(present + 1)
        video.append(np.full(len(present), number))
    return np.concatenate(label).astype(np.int8), np.concatenate(video), np.concatenate(frame)


def flip(clip: tuple[np.ndarray, ...], rate: float, seed: int = 0, length: int = 7) -> np.ndarray:
    label_N, video_N, frame_N = clip
    rng = np.random.default_rng(seed)
    return flip_units(label_N, units(label_N, video_N, frame_N, length), CLASSES, "symmetric", rate, {}, rng)


@given(st.integers(0, 2**32), st.floats(0, 0.99), st.integers(0, 2**32))
def test_both_laws_have_exactly_the_asked_share(seed: int, rate: float, noise_seed: int) -> None:
    clip = clips(seed)
    of_frames = flip_labels(clip[0], CLASSES, "symmetric", rate, True, {}, np.random.default_rng(noise_seed))
    of_segments = flip(clip, rate, noise_seed)
    for noisy_N in (of_frames, of_segments):
        assert (noisy_N != clip[0]).sum() == round(rate * len(clip[0]))
        assert noisy_N.dtype == np.int8 and noisy_N.min() >= 0 and noisy_N.max() < CLASSES
    assert np.array_equal(of_segments, flip(clip, rate, noise_seed))


@given(st.integers(0, 2**32), st.floats(0, 0.99), st.floats(0, 0.99))
def test_more_noise_flips_the_same_frames_and_more(seed: int, one: float, other: float) -> None:
    clip = clips(seed)
    low, high = (flip(clip, rate) for rate in sorted((one, other)))
    changed = low != clip[0]
    assert np.array_equal(high[changed], low[changed])


@given(st.integers(0, 2**32), st.integers(1, 30))
def test_units_are_what_the_definition_says(seed: int, length: int) -> None:
    """Frame by frame: a new unit where video or label change, after a gap, or after `length` frames."""
    label_N, video_N, frame_N = clips(seed)
    expected, size = [0], 1
    for i in range(1, len(label_N)):
        follows = video_N[i] == video_N[i - 1] and frame_N[i] == frame_N[i - 1] + 1 and label_N[i] == label_N[i - 1]
        if follows and size < length:
            size += 1
        else:
            expected.append(i)
            size = 1
    assert units(label_N, video_N, frame_N, length).tolist() == expected


def test_a_wrong_segment_has_one_wrong_label_and_is_as_long_as_asked() -> None:
    label_N, video_N, frame_N = np.zeros(1000, np.int8), np.repeat([0, 1], 500), np.tile(np.arange(500), 2)
    noisy_N = flip((label_N, video_N, frame_N), 0.3, length=20)
    runs = [(value, len([*run])) for value, run in itertools.groupby(noisy_N.tolist())]
    wrong = [size for value, size in runs if value]
    assert all(size % 20 == 0 for size in wrong) and sum(wrong) == 300
    single = flip_labels(label_N, CLASSES, "symmetric", 0.3, True, {}, np.random.default_rng(0))
    singles = [len([*run]) for value, run in itertools.groupby(single.tolist()) if value]
    assert np.mean(singles) < 2, "frames by themselves do not stay wrong"


def test_wrong_labels_are_uniform_over_the_other_classes() -> None:
    label_N, video_N, frame_N = np.ones(60_000, np.int8), np.zeros(60_000), np.arange(60_000)
    noisy_N = flip((label_N, video_N, frame_N), 0.5, length=5)
    shares = np.bincount(noisy_N[noisy_N != 1], minlength=CLASSES)[[0, 2, 3]] / 30_000
    np.testing.assert_allclose(shares, 1 / 3, atol=0.02)


def test_a_map_flips_its_classes_alone() -> None:
    label_N, video_N, frame_N = clips(3)
    rng = np.random.default_rng(0)
    start_U = units(label_N, video_N, frame_N, 5)
    noisy_N = flip_units(label_N, start_U, CLASSES, "asymmetric", 0.5, {2: 0}, rng)
    assert set(noisy_N[noisy_N != label_N]) == {0} and set(label_N[noisy_N != label_N]) == {2}
    assert (noisy_N != label_N).sum() == round(0.5 * (label_N == 2).sum())


def test_one_class_cannot_be_mistaken() -> None:
    one = np.zeros(3, np.int8)
    with pytest.raises(DataError, match="needs two classes or more"):
        flip_units(one, np.array([0]), 1, "symmetric", 0.5, {}, np.random.default_rng(0))


def test_no_frames_stay_none() -> None:
    assert len(flip(tuple(np.zeros(0, np.int8) for _ in range(3)), 0.5)) == 0
