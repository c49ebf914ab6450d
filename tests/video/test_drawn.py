"""Drawn clips: the posterior is true, the looks drift inside the ranges of the images, everything is seeded."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nla.config.clips import ClipsConfig
from nla.data.sources.base import Findings
from nla.data.sources.synthetic import CLASSES, called_other
from nla.data.sources.synthetic_render import Look
from nla.evaluation.metrics import bayes_accuracy
from nla.video.sources.drawn import (
    NEUTRAL,
    Drawn,
    autoregression,
    draw_looks,
    draw_walk,
    episodes,
    expression_shares,
)

SMALL = {"train": 2, "valid": 2, "test": 2, "frames": 20}


def rows(**drawn: int) -> pa.Table:
    config = ClipsConfig(drawn={**SMALL, **drawn})  # type: ignore[arg-type]
    return pa.Table.from_batches(list(Drawn(config, Path()).batches(Findings())))


def walks(count: int, split: str = "test", frames: int = 200) -> list[tuple[np.ndarray, ...]]:
    rng, shares_C = np.random.default_rng(1), expression_shares(split)
    return [draw_walk(frames, shares_C, rng) for _ in range(count)]


def test_a_label_has_the_probability_that_the_posterior_states() -> None:
    """By position of the walk: the share of frames that are labelled as the expression is g(m)."""
    expression, position, _, label = (np.concatenate(column) for column in zip(*walks(900), strict=True))
    edges = np.linspace(0, 1, 11)
    for low, high in itertools.pairwise(edges):
        inside = (position >= low) & (position < high)
        stated = called_other(position[inside]).mean()
        assert (label[inside] == expression[inside]).mean() == pytest.approx(stated, abs=0.05), (low, high)
    assert set(label[label != expression]) == {NEUTRAL}


def test_the_bayes_accuracy_is_that_of_the_posterior() -> None:
    table = rows(train=60, frames=100)
    posterior_NC, label_N = np.stack(table["posterior"].to_pylist()), table["label"].to_numpy()
    np.testing.assert_allclose(posterior_NC.sum(1), 1, atol=1e-6)
    assert bayes_accuracy(posterior_NC, label_N) == pytest.approx(posterior_NC.max(1).mean(), abs=0.03)


def test_positions_are_smooth_and_labels_do_not_flicker() -> None:
    for walk in walks(50):
        assert np.abs(np.diff(walk[1])).max() < 0.5
    changes = np.mean([np.count_nonzero(np.diff(walk[3])) / 200 for walk in walks(200)])
    assert changes < 0.05


def test_clips_begin_anywhere_in_an_excursion() -> None:
    first = np.array([walk[1][0] for walk in walks(300)])
    assert 0.2 < (first > 0.5).mean() < 0.6


def test_expressions_of_train_are_unbalanced() -> None:
    train, test = expression_shares("train"), expression_shares("test")
    assert train[NEUTRAL] == test[NEUTRAL] == 0
    np.testing.assert_allclose(np.delete(test, NEUTRAL), 1 / 7)
    assert train[CLASSES.index("happiness")] > 5 * train[CLASSES.index("contempt")]


def test_a_clip_is_one_face_whose_pose_and_light_drift() -> None:
    look = draw_looks(300, 0.1, np.random.default_rng(0))
    for name in ("skin", "eye_distance", "glasses", "front_x", "background"):
        assert np.ptp(getattr(look, name)) == 0, name
    for name in ("shift_x", "yaw", "light_x", "gaze"):
        value = getattr(look, name).ravel()
        assert np.ptp(value) > 0 and np.abs(np.diff(value)).mean() < 0.3 * np.ptp(value), name


def test_in_any_one_frame_a_look_is_that_of_an_image() -> None:
    """The drift is stationary: the mean and the range of a frame far into the clip are those of Look.draw."""
    rng = np.random.default_rng(2)
    late = np.array([draw_looks(80, 0.1, rng).yaw[-1].item() for _ in range(800)])
    drawn = Look.draw(4000, rng).yaw.ravel()
    np.testing.assert_allclose(np.quantile(late, [0.1, 0.5, 0.9]), np.quantile(drawn, [0.1, 0.5, 0.9]), atol=0.02)
    assert np.abs(late).max() <= 0.17


def test_the_autoregression_has_the_stated_memory() -> None:
    value_T = autoregression(200_000, 20, np.random.default_rng(3))
    assert value_T.std() == pytest.approx(1, abs=0.05)
    assert np.corrcoef(value_T[:-20], value_T[20:])[0, 1] == pytest.approx(np.exp(-1), abs=0.05)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_episodes_have_the_stated_share_and_length(share: float) -> None:
    is_on_T = episodes(200_000, share, np.random.default_rng(4))
    assert is_on_T.mean() == pytest.approx(share, abs=0.02)
    if share:
        begins = np.count_nonzero(np.diff(is_on_T.astype(int)) == 1)
        assert is_on_T.sum() / begins == pytest.approx(12, rel=0.1)


def test_a_video_depends_on_seed_split_and_number_alone() -> None:
    few, more, other = rows(train=2), rows(train=3), rows(seed=1)
    images = [table["pixels"].to_pylist()[:40] for table in (few, more, other)]
    assert images[0] == images[1] and not set(images[0]) & set(images[2])
    assert few["time"].to_pylist()[:3] == [0.0, 0.04, 0.08]
    assert few["frame"].to_pylist()[:20] == list(range(1, 21))
