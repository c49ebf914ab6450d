from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from nla.data.images import pixel_statistics


@pytest.mark.parametrize("n", [1, 999, 1000, 2345])
def test_mean_and_deviation_a_channel(n: int) -> None:
    images_NHWC = np.random.default_rng(n).integers(0, (100, 200, 256), (n, 4, 4, 3), dtype=np.uint8)
    mean, std = pixel_statistics(images_NHWC)
    np.testing.assert_allclose(mean, (images_NHWC / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images_NHWC / 255).std((0, 1, 2)), rtol=1e-10)


def test_one_colour_can_be_divided_by() -> None:
    assert pixel_statistics(np.full((3, 2, 2, 1), 51, np.uint8)) == ((pytest.approx(0.2),), (1 / 255,))


def test_counting_needs_little_memory() -> None:
    """A table of a million images is not copied to another type."""
    images_NHWC = np.zeros((20_000, 16, 16, 1), np.uint8)
    tracemalloc.start()
    try:
        pixel_statistics(images_NHWC)
        assert tracemalloc.get_traced_memory()[1] < images_NHWC.nbytes
    finally:
        tracemalloc.stop()
