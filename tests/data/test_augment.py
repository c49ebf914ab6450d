from __future__ import annotations

import random

import albumentations as A
import cv2
import numpy as np
import pytest

from nla.data.augment import Mirror, PixelNoise, Warp, make_augment
from nla.errors import ConfigError

RECIPES = ("none", "flip", "affine", "strong", "released")


def picture(channels: int = 1, side: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side, side, channels), dtype=np.uint8)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_seed_gives_the_same_image_in_any_order_and_keeps_the_input(recipe: str, channels: int) -> None:
    image, fill = picture(channels), (10.0, 20.0, 30.0)[:channels]
    image.flags.writeable = False  # as it lies in shared memory
    seeds = [0, 1, 2**63 - 1, *range(10, 30)]
    forward = [make_augment(recipe, fill=fill)(image, seed) for seed in seeds]
    augment = make_augment(recipe, fill=fill)
    backward = [augment(image, seed) for seed in reversed(seeds)][::-1]
    np.testing.assert_array_equal(forward, backward)
    np.testing.assert_array_equal(image, picture(channels))
    assert all(out.shape == image.shape and out.dtype == np.uint8 for out in forward)
    assert (len({out.tobytes() for out in forward}) > 1) == (recipe != "none")


def test_flip_mirrors_half_of_the_images_and_does_nothing_else() -> None:
    image, augment = picture(), make_augment("flip")
    mirrored = 0
    for seed in range(400):
        out = augment(image, seed)
        assert np.array_equal(out, image) or np.array_equal(out, image[:, ::-1])
        mirrored += np.array_equal(out, image[:, ::-1])
    assert mirrored == pytest.approx(200, abs=50)  # five standard deviations


def test_released_is_noise_of_variance_30_flip_and_erasing_each_on_its_own() -> None:
    image, augment = np.full((48, 48, 1), 128, np.uint8), make_augment("released", fill=200)
    image[:, :24] = 90  # tells a mirrored image
    drawn = [augment(image, seed) for seed in range(800)]
    mirrored_N, noisy_N, erased_N, deviations = [], [], [], []
    for out in drawn:
        hole = out[..., 0] == 200
        mirrored = np.median(out[:, :24][~hole[:, :24]]) > 109
        rest = (out.astype(float) - (image[:, ::-1] if mirrored else image))[..., 0][~hole]
        noisy = bool(np.abs(rest).max() > 0)
        mirrored_N.append(mirrored)
        erased_N.append(bool(hole.any()))
        noisy_N.append(noisy)
        deviations += [rest.std()] if noisy else []
        if hole.any():
            assert 0.01 < hole.mean() < 0.31
    # Rounding to whole grey values adds a variance of 1/12.
    assert np.mean(deviations) == pytest.approx((30 + 1 / 12) ** 0.5, abs=0.1)
    for happened_N in (mirrored_N, noisy_N, erased_N):
        assert np.mean(happened_N) == pytest.approx(0.5, abs=0.09)
    steps = np.corrcoef([mirrored_N, noisy_N, erased_N])
    assert np.abs(steps - np.eye(3)).max() < 5 / 800**0.5


def test_affine_moves_a_face_but_keeps_it_in_the_frame() -> None:
    image = np.full((49, 49, 1), 10, np.uint8)
    image[20:29, 20:29] = 200
    augment, centres = make_augment("affine", fill=10), []
    for seed in range(300):
        out = augment(image, seed)[..., 0]
        rows, columns = np.nonzero(out > 130)
        if rows.size > 60:  # of 81: not erased
            centres.append((rows.mean() - 24, columns.mean() - 24))
    assert len(centres) > 200
    # 8 % of 49 pixels is 3.9; a turn or zoom about the centre moves a centred square no further.
    assert 3.4 < np.abs(centres).max() < 4.5
    assert np.abs(np.mean(centres, axis=0)).max() < 0.6


def test_warp_of_a_dot_lands_where_geometry_says() -> None:
    image = np.zeros((101, 101, 1), np.uint8)
    image[49:52, 79:82] = 255  # 30 right of the centre
    warp = Warp(zoom=0, degrees=0, shift=0)
    out = warp.apply(image, factor=0.8, angle=30, right=0.1, down=-0.05)
    rows, columns = np.nonzero(out[..., 0] > 60)
    turn = np.deg2rad(30)
    expected = (50 - 0.8 * 30 * np.sin(turn) - 5.05, 50 + 0.8 * 30 * np.cos(turn) + 10.1)
    np.testing.assert_allclose((rows.mean(), columns.mean()), expected, atol=0.5)
    still = warp.apply(picture(3), factor=1, angle=0, right=0, down=0)
    np.testing.assert_array_equal(still, picture(3))


def test_an_unknown_recipe_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown recipe 'mixup': valid are none, flip, affine, strong, released"):
        make_augment("mixup")


def test_opencv_keeps_to_one_thread() -> None:
    assert cv2.getNumThreads() == 1


STEPS = {
    "flip": [A.HorizontalFlip(p=0.5)],
    "affine": [A.HorizontalFlip(p=0.5), Warp(zoom=0.15, degrees=12, shift=0.08)],
    "released": [
        PixelNoise(variance=30, p=0.5),
        A.HorizontalFlip(p=0.5),
        A.Erasing(scale=(0.02, 0.3), ratio=(0.3, 3.3), fill=7, p=0.5),
    ],
}


@pytest.mark.parametrize("recipe", STEPS)
def test_an_image_is_what_compose_makes_with_generators_of_that_seed(recipe: str) -> None:
    compose, augment = A.Compose(STEPS[recipe]), make_augment(recipe, fill=7)
    for seed in range(60):
        key = np.array([seed, 0], np.uint64)
        compose.set_random_state(np.random.Generator(np.random.Philox(key=key)), random.Random(seed))
        np.testing.assert_array_equal(augment(picture(), seed), compose(image=picture())["image"])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mirror_is_the_flip_of_albumentations(channels: int) -> None:
    image = picture(channels)
    np.testing.assert_array_equal(Mirror(p=1)(image=image)["image"], A.HorizontalFlip(p=1)(image=image)["image"])
