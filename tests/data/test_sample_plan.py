from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nla.data.sample_plan import leaking_rows, leaks, stratified_split
from nla.data.schema import TEST, TRAIN, VALID


def test_split_is_stratified_and_seeded() -> None:
    label_N = np.repeat([0, 1, 2], [500, 90, 10])
    image_N = np.arange(600)
    is_valid_N = stratified_split(label_N, image_N, 0.1, np.random.default_rng(1))
    assert np.bincount(label_N[is_valid_N]).tolist() == [50, 9, 1]
    np.testing.assert_array_equal(is_valid_N, stratified_split(label_N, image_N, 0.1, np.random.default_rng(1)))
    assert (is_valid_N != stratified_split(label_N, image_N, 0.1, np.random.default_rng(2))).any()


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=60),
    st.floats(0.01, 0.99),
)
def test_identical_pictures_stay_together_and_no_class_is_emptied(rows: list[tuple[int, int]], fraction: float) -> None:
    label_N, image_N = np.array(rows).T
    is_valid_N = stratified_split(label_N, image_N, fraction, np.random.default_rng(0))
    assert not set(image_N[is_valid_N]) & set(image_N[~is_valid_N])
    first = {image: label for label, image in reversed(rows)}
    for label in set(first.values()):
        pictures = [image for image in first if first[image] == label]
        valid = sum(bool(is_valid_N[image_N == image].all()) for image in pictures)
        assert (0 < valid < len(pictures)) if len(pictures) > 1 else valid == 0


def test_leaks_are_counted_and_found_from_the_later_split() -> None:
    split_N = np.array([TRAIN, TRAIN, TRAIN, TRAIN, VALID, VALID, VALID, TEST, TEST, TEST, -1])
    image_N = np.array([1, 1, 2, 3, 2, 5, 6, 1, 5, 5, 6])
    assert leaks(split_N, image_N) == {"valid_in_train": 1, "test_in_train": 1, "test_in_valid": 2}
    assert np.flatnonzero(leaking_rows(split_N, image_N)).tolist() == [0, 1, 2, 5]


@given(st.lists(st.tuples(st.sampled_from([-1, TRAIN, VALID, TEST]), st.integers(0, 8)), min_size=1, max_size=40))
def test_nothing_leaks_once_the_leaking_rows_are_gone(rows: list[tuple[int, int]]) -> None:
    split_N, image_N = np.array(rows).T
    gone_N = leaking_rows(split_N, image_N)
    assert not gone_N[(split_N == TEST) | (split_N == -1)].any()
    assert not any(leaks(np.where(gone_N, -1, split_N), image_N).values())
    for row in np.flatnonzero(gone_N):
        assert any(split > split_N[row] and image == image_N[row] for split, image in rows)
