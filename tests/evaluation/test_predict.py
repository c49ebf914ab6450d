"""Probabilities over the views of an image, against one view at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nla.evaluation.predict import ONE_VIEW, Views, predict
from nla.models.classifier import Architecture, Classifier, ImageSpec

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier(Architecture("resnet18", 4, "stride2", 0.0, 3), ImageSpec(16, 3, (0.5,) * 3, (0.25,) * 3))


def one(model: Classifier, images_NHWC: np.ndarray) -> np.ndarray:
    return predict(model, images_NHWC, ONE_VIEW)


def moved(images_NHWC: np.ndarray, down: int, right: int) -> np.ndarray:
    """Row y and column x show what lay at (y - down, x - right), or nearest to it."""
    rows, columns = (np.clip(np.arange(16) - way, 0, 15) for way in (down, right))
    return images_NHWC[:, rows][:, :, columns]


def test_a_mirror_is_a_view(model: Classifier) -> None:
    expected = (one(model, IMAGES) + one(model, IMAGES[:, :, ::-1])) / 2
    np.testing.assert_allclose(predict(model, IMAGES, Views()), expected, atol=1e-6)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("shift", [1, 3])
def test_so_is_each_shift(model: Classifier, mirror: bool, shift: int) -> None:
    ways = [(0, 0), (shift, 0), (-shift, 0), (0, shift), (0, -shift)]
    views = [moved(IMAGES, *way) for way in ways]
    views += [view[:, :, ::-1] for view in views] if mirror else []
    expected = np.mean([one(model, view) for view in views], axis=0)
    np.testing.assert_allclose(predict(model, IMAGES, Views(mirror, shift)), expected, atol=1e-6)


def test_batches_do_not_matter_and_the_mode_stays(model: Classifier) -> None:
    model.train()
    whole_NC = predict(model, IMAGES, Views())
    np.testing.assert_allclose(predict(model, IMAGES, Views(), batch_size=2), whole_NC, atol=1e-6)
    assert model.training
    assert predict(model, IMAGES[:0], Views()).shape == (0, 3)
