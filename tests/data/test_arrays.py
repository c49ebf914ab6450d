"""Samples from arrays, encoded images and paths; and the validation part that is held out of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.data.arrays import SUM_TOLERANCE, hold_out, make_samples
from nla.data.images import encode_png, fit
from nla.data.samples import Samples
from nla.errors import DataError


def noise(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng((3, n)).integers(0, 256, (n, *shape), np.uint8)


GREY, RGB = noise(4, 20, 20), noise(4, 20, 20, 3)
LABELS = [0, 1, 1, 0]


class TestImages:
    @pytest.mark.parametrize("images", [GREY, GREY[..., None], RGB])
    def test_an_array_of_squares_is_not_copied(self, images: np.ndarray) -> None:
        samples = make_samples(images, LABELS)
        assert np.shares_memory(samples.images_NHWC, images)
        assert samples.images_NHWC.shape == (4, 20, 20, images.size // 1600)
        assert samples.row_N.tolist() == [0, 1, 2, 3]

    @pytest.mark.parametrize("images", [GREY, RGB])
    def test_files_bytes_and_arrays_are_the_same_samples(self, tmp_path: Path, images: np.ndarray) -> None:
        paths = [tmp_path / f"{i}.png" for i in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            path.write_bytes(encode_png(image))
        expected = images.reshape(4, 20, 20, -1)
        mixed = [paths[0], str(paths[1]), paths[2].read_bytes(), images[3]]
        for given_images in (paths, mixed, list(images)):
            np.testing.assert_array_equal(make_samples(given_images, LABELS).images_NHWC, expected)

    def test_image_size_and_color_are_those_of_fit(self) -> None:
        images = [noise(1, 30, 17)[0], noise(1, 16, 40, 3)[0], noise(1, 24, 24)[0][..., None]]
        grey = make_samples(images, [0, 1, 1], image_size=24, color="grey").images_NHWC
        mixed = make_samples(images, [0, 1, 1], image_size=24).images_NHWC
        assert (grey.shape, mixed.shape) == ((3, 24, 24, 1), (3, 24, 24, 3))
        np.testing.assert_array_equal(grey[1, ..., 0], fit(images[1], 24, "grey"))
        np.testing.assert_array_equal(mixed[0], fit(images[0], 24, "rgb"))
        np.testing.assert_array_equal(grey[2, ..., 0], images[2][..., 0])

    @pytest.mark.parametrize(
        ("images", "options", "message"),
        [
            (GREY.astype(np.float32), {}, r"expected uint8 in 0\.\.255 \(got float32 \[4, 20, 20\]\)\. Convert"),
            (GREY[0], {}, r"expected \[N, H, W\].*\(got uint8 \[20, 20\]\)"),
            (noise(4, 3, 20, 20), {}, r"1 or 3 channels \(got uint8 \[4, 3, 20, 20\]\)\. Reshape or transpose"),
            (GREY[:0], {}, r"empty \(got 0 images\)"),
            ([], {}, r"empty \(got 0 images\)"),
            (noise(4, 20, 30), {}, r"expected squares of one size \(got 20 x 30\)\. Set image_size"),
            ([*GREY[:3], noise(1, 30, 30)[0]], {}, r"\(got 20 x 20, 30 x 30\)\. Set image_size"),
            (noise(4, 8, 8), {}, r"sides must be 16 to 512 pixels \(got 8\)"),
            (GREY, {"image_size": 8}, r"image_size: must be 16 to 512 pixels \(got 8\)"),
            (GREY, {"color": "red"}, r"color: unknown \(got 'red'\)\. Use grey or rgb"),
            ([*GREY[:3], 7], {}, r"image 3: expected a path, encoded bytes or a uint8 array \(got int\)"),
            ([*GREY[:3], GREY[3] / 2], {}, r"image 3: expected uint8 in 0\.\.255 \(got float64"),
            ([*GREY[:3], b"abc"], {}, r"image 3: .*damaged.* \(got 3 bytes\)\. Pass a whole PNG"),
            ([*GREY[:3], "no.png"], {}, r"image 3: No such file or directory \(got no\.png\)"),
            ("faces", {}, r"expected an array, or a sequence of images \(got str\)"),
        ],
    )
    def test_what_is_wrong_is_named(self, images: Any, options: dict[str, Any], message: str) -> None:
        with pytest.raises(DataError, match=message):
            make_samples(images, LABELS, **options)


class TestLabels:
    @pytest.mark.parametrize(
        ("labels", "classes", "label_N", "known"),
        [
            (LABELS, None, LABELS, ("0", "1")),
            (np.array(LABELS, np.uint8), ("a", "b", "c"), LABELS, ("a", "b", "c")),
            (["sad", "happy", "happy", "sad"], None, [1, 0, 0, 1], ("happy", "sad")),
            (np.array(["b", "a", "a", "b"]), ("b", "a"), LABELS, ("b", "a")),
            ([[0.9, 0.1], [0.2, 0.8], [0.0, 1.0], [0.5, 0.5]], ("a", "b"), LABELS, ("a", "b")),
        ],
    )
    def test_indices_names_and_distributions(
        self, labels: Any, classes: tuple[str, ...] | None, label_N: list[int], known: tuple[str, ...]
    ) -> None:
        samples = make_samples(GREY, labels, classes)
        assert (samples.label_N.tolist(), samples.classes, samples.label_N.dtype) == (label_N, known, np.int64)
        if np.ndim(labels) == 2:
            assert samples.target_NC is not None and samples.target_NC.dtype == np.float32
            np.testing.assert_allclose(samples.target_NC, labels, rtol=1e-6)
        else:
            assert samples.target_NC is None

    @pytest.mark.parametrize(
        ("labels", "classes", "message"),
        [
            (LABELS[:3], None, r"expected one per image, 4 \(got shape \[3\]\)"),
            ([0, 1, 2, 0], ("a", "b"), r"expected 0 to 1 \(got 2 for image 2\)"),
            ([0, -1, 1, 0], None, r"expected 0 to 1 \(got -1 for image 1\)"),
            ([0.0, 1.0, 1.0, 0.0], None, r"expected class indices or names \(got float64\)"),
            (["happy", "sat", "sad", "sad"], ("happy", "sad"), r"image 1 \(got 'sat'\): did you mean 'sad'\?"),
            ([0, 0, 0, 0], None, r"classes: at least two are needed \(got 0\)"),
            (LABELS, ("a", "a"), r"classes: duplicate name \(got 'a' twice\)"),
            ([[0, 1]] * 4, None, r"expected distributions of floats \(got int64\)"),
            ([[0.5, 0.5]] * 4, ("a", "b", "c"), r"a distribution over 3 classes \(got 2\)"),
            ([[0.5, 0.5]] * 3 + [[0.5, 0.6]], None, r"sum to 1 \(got \[0\.5, 0\.6\] for image 3\)"),
            ([[0.5, 0.5]] * 3 + [[1.5, -0.5]], None, r"non-negative and sum to 1 \(got \[1\.5, -0\.5\]"),
            ([[0.5, 0.5]] * 3 + [[np.nan, 1.0]], None, r"sum to 1 \(got \[nan, 1\.0\] for image 3\)"),
            ([[0.5, 0.5], [1.0]] * 2, None, r"rows of different lengths"),
        ],
    )
    def test_what_is_wrong_is_named(self, labels: Any, classes: tuple[str, ...] | None, message: str) -> None:
        with pytest.raises(DataError, match=message):
            make_samples(GREY, labels, classes)

    def test_the_sum_of_a_distribution_may_be_rounded(self) -> None:
        third = np.full((4, 3), 1 / 3, np.float16)
        assert 0 < abs(third.sum(axis=1, dtype=np.float64)[0] - 1) < SUM_TOLERANCE
        assert make_samples(GREY, third).target_NC is not None

    def test_messages_name_the_samples(self) -> None:
        with pytest.raises(DataError, match=r"^valid labels: "):
            make_samples(GREY, LABELS[:3], name="valid")


class TestHoldOut:
    @given(
        labels=st.lists(st.integers(0, 3), min_size=8, max_size=60),
        fraction=st.floats(0.05, 0.9),
        seed=st.integers(0, 5),
    )
    def test_every_sample_is_on_one_side_and_every_class_on_both(
        self, labels: list[int], fraction: float, seed: int
    ) -> None:
        samples = make_samples(noise(len(labels), 16, 16), labels, "abcd")
        train, valid = hold_out(samples, fraction, seed)
        assert sorted([*train.row_N, *valid.row_N]) == list(range(len(labels)))
        for part in (train, valid):
            np.testing.assert_array_equal(part.images_NHWC, samples.images_NHWC[part.row_N])
            np.testing.assert_array_equal(part.label_N, samples.label_N[part.row_N])
        for label in set(labels):
            count, held = labels.count(label), int((valid.label_N == label).sum())
            assert (1 <= held < count and abs(held - fraction * count) <= 1) or count == 1
        again = hold_out(samples, fraction, seed)[1]
        assert again.row_N.tolist() == valid.row_N.tolist()

    def test_identical_images_stay_together(self) -> None:
        samples = make_samples(np.repeat(noise(20, 16, 16), 3, axis=0), np.repeat(np.arange(20) % 2, 3))
        train, valid = hold_out(samples, 0.3, 0)
        assert set(train.row_N // 3).isdisjoint(valid.row_N // 3)
        assert len(valid) == 3 * 6

    def test_distributions_are_split_too(self) -> None:
        target_NC = np.random.default_rng(0).dirichlet([1, 1, 1], 30)
        for part in hold_out(make_samples(noise(30, 16, 16), target_NC), 0.2, 1):
            assert part.target_NC is not None
            np.testing.assert_allclose(part.target_NC, target_NC[part.row_N], rtol=1e-6)

    @pytest.mark.parametrize(
        ("make", "fraction", "message"),
        [
            (lambda: make_samples(GREY, LABELS), 1.0, r"valid_fraction: must be between 0 and 1 \(got 1\.0\)"),
            (lambda: make_samples(GREY[:2], [0, 1]), 0.1, r"no class has two different images \(got 2 images\)"),
        ],
    )
    def test_what_cannot_be_split(self, make: Callable[[], Samples], fraction: float, message: str) -> None:
        with pytest.raises(DataError, match=message):
            hold_out(make(), fraction, 0)
