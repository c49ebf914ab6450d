"""The drawn faces: their law, their counts, and how hard they are."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from nla.config.data import DataConfig, SyntheticConfig
from nla.data.images import decode, pixel_hash
from nla.data.schema import FACES
from nla.data.sources import synthetic_render as faces
from nla.data.sources.base import Findings
from nla.data.sources.synthetic import (
    AFFINITY,
    CLASSES,
    FERPLUS_TRAIN,
    PROTOTYPES,
    Synthetic,
    class_counts,
    draw_partners,
    draw_positions,
    true_posterior,
)
from nla.data.sources.synthetic_render import Look, Muscle, draw_faces

SIGMAS = 4.5  # a right sum is further off once in 150,000 times; the seeds are fixed, so a passing test stays so


def draw(train: int, valid: int, test: int, seed: int = 0) -> pa.Table:
    config = DataConfig(synthetic=SyntheticConfig(train=train, valid=valid, test=test, seed=seed))
    source = Synthetic(config, Path("nowhere"))
    table = pa.Table.from_batches(source.batches(Findings()))
    assert len(source) == table.num_rows
    return table


def part(table: pa.Table, split: str) -> pa.Table:
    return table.filter(pc.equal(table["split"], split))


def matrix(table: pa.Table, column: str) -> np.ndarray:
    return np.array(table[column].to_pylist())


@pytest.fixture(scope="module")
def small() -> pa.Table:
    return draw(600, 104, 296)


def test_rows_follow_the_schema_and_every_image_decodes_to_what_was_hashed(small: pa.Table) -> None:
    assert small.schema.equals(FACES)
    assert small["row"].to_pylist() == list(range(1000))
    assert [small["split"].to_pylist().count(s) for s in ("train", "valid", "test")] == [600, 104, 296]
    images = small["image"].to_pylist()
    assert len({image["path"] for image in images}) == 1000
    assert images[704]["path"] == "synthetic/test/00000.png"
    for image, expected in zip(images, small["pixels"].to_pylist(), strict=True):
        pixels = decode(image["bytes"])
        assert pixels.shape == (48, 48)
        assert pixel_hash(pixels) == expected
    assert len(set(small["pixels"].to_pylist())) == 1000


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_faces(small: pa.Table) -> None:
    assert draw(600, 104, 296).equals(small)
    assert not set(draw(600, 104, 296, seed=1)["pixels"].to_pylist()) & set(small["pixels"].to_pylist())


def test_a_split_does_not_depend_on_the_size_of_another(small: pa.Table) -> None:
    other = part(draw(100, 104, 296), "test")
    assert other["pixels"].to_pylist() == part(small, "test")["pixels"].to_pylist()


def test_splits_differ() -> None:
    table = draw(100, 104, 104)
    assert part(table, "valid")["label"] != part(table, "test")["label"]


def test_train_is_unbalanced_like_ferplus() -> None:
    counts = class_counts("train", 12_000)
    small = [5, 6, 7]  # disgust, fear, contempt
    assert counts[small].tolist() == [375] * 3
    large = np.delete(FERPLUS_TRAIN, small)
    expected = [Fraction(int(n) * (12_000 - 3 * 375), int(large.sum())) for n in large]
    assert all(abs(n - e) < 1 for n, e in zip(np.delete(counts, small).tolist(), expected, strict=True))


@given(st.integers(100, 40_000), st.sampled_from(["train", "valid", "test"]))
def test_counts_sum_to_the_rows_and_no_class_is_left_out(rows: int, split: str) -> None:
    counts = class_counts(split, rows)
    assert counts.sum() == rows
    assert counts.min() >= rows // 32
    if split != "train":
        assert counts.max() - counts.min() <= 1
    else:
        order = np.argsort(FERPLUS_TRAIN, kind="stable")
        assert (np.diff(counts[order]) >= -1).all()


def test_labels_are_counted_as_announced(small: pa.Table) -> None:
    for split, rows in (("train", 600), ("valid", 104), ("test", 296)):
        labels = np.bincount(part(small, split)["label"].to_numpy(), minlength=8)
        assert labels.tolist() == class_counts(split, rows).tolist()
        assert labels.min() > 0


def test_posteriors_are_distributions_over_at_most_two_classes(small: pa.Table) -> None:
    posterior = matrix(small, "posterior")
    assert posterior.shape == (1000, len(CLASSES))
    assert np.abs(posterior.sum(1) - 1).max() < 1e-6
    assert posterior.min() >= 0
    assert set(np.unique((posterior > 0).sum(1))) <= {1, 2}
    labels = small["label"].to_numpy()
    assert (posterior[np.arange(1000), labels] > 0).all()


def test_ten_annotators_vote_from_the_posterior(small: pa.Table) -> None:
    votes, posterior = matrix(small, "votes"), matrix(small, "posterior")
    assert (votes.sum(1) == 10).all()
    assert (votes[posterior == 0] == 0).all()
    assert_calibrated(votes.ravel() / 10, posterior.ravel(), draws=10)
    # Votes are independent draws: of two-class faces the variance is n p (1 - p), neither a shared nor a rounded one.
    p = posterior.max(1)
    top = votes[np.arange(1000), posterior.argmax(1)]
    is_open = p < 0.8
    spread = (top - 10 * p)[is_open] ** 2 / (10 * p * (1 - p))[is_open]
    assert abs(spread.mean() - 1) < SIGMAS * np.sqrt(2 / is_open.sum())


def assert_calibrated(rate: np.ndarray, p: np.ndarray, draws: int = 1) -> None:
    """In each tenth of `p` the mean rate is p up to chance. The cells of one row lie in different tenths or mirror."""
    for low in np.arange(0, 1, 0.1):
        rows = (p > max(low, 1e-9)) & (p <= low + 0.1) & (p < 1)
        variance = (p[rows] * (1 - p[rows])).sum() / draws
        assert abs((rate[rows] - p[rows]).sum()) < SIGMAS * np.sqrt(2 * variance)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_posterior_is_that_of_the_labels_whatever_the_class_counts(split: str) -> None:
    """400,000 labels, faces given the labels: among faces of equal posterior the labels must come at that rate."""
    rng = np.random.default_rng(5)
    counts = class_counts(split, 400_000)
    labels = np.repeat(np.arange(8), counts)
    partners, positions = draw_partners(labels, counts, rng), draw_positions(len(labels), rng)
    posterior = true_posterior(labels, partners, positions)
    for c in range(8):  # each class for itself: contempt is 0.5 % of train, and would not show in the sum
        assert_calibrated((labels == c).astype(float), posterior[:, c])


def test_only_plausible_expressions_blend_and_every_class_blends_equally_often() -> None:
    assert np.array_equal(AFFINITY, AFFINITY.T)
    np.testing.assert_allclose(AFFINITY.sum(1), 1)
    assert (np.diag(AFFINITY) == 0).all()
    labels = np.repeat(np.arange(8), 50_000)
    counts = class_counts("test", len(labels))
    partners = draw_partners(labels, counts, np.random.default_rng(0))
    observed = np.zeros((8, 8))
    np.add.at(observed, (labels, partners), 1 / 50_000)
    assert np.abs(observed - AFFINITY).max() < 0.012  # five standard deviations of a share of 0.4


def test_a_face_is_mirrored_by_mirroring_its_parameters() -> None:
    """All signed parameters are symmetric about 0, so mirror images are equally likely and keep their posterior."""
    rng = np.random.default_rng(2)
    muscles = PROTOTYPES[rng.integers(0, 8, 96)].copy()
    muscles[:, Muscle.SMIRK] *= rng.choice([-1, 1], 96)
    look = replace(Look.draw(96, rng), noise=np.zeros((96, 1, 1), np.float32))
    signed = ("shift_x", "turn", "yaw", "gaze", "light_x", "front_x", "front_lean")
    mirrored_look = replace(look, **{name: -getattr(look, name) for name in signed})
    mirrored_muscles = muscles.copy()
    mirrored_muscles[:, Muscle.SMIRK] *= -1
    image = draw_faces(muscles, look, rng).astype(int)
    mirror = draw_faces(mirrored_muscles, mirrored_look, rng).astype(int)[:, :, ::-1]
    assert np.abs(image - mirror).max() <= 1
    assert np.abs(image - image[:, :, ::-1]).mean() > 5


def test_signed_parameters_have_symmetric_ranges() -> None:
    look = Look.draw(20_000, np.random.default_rng(0))
    for name in ("shift_x", "turn", "yaw", "gaze", "light_x", "front_x", "front_lean"):
        values = getattr(look, name)
        assert abs(values.min() + values.max()) < 0.01 * np.ptp(values)


def test_every_muscle_and_every_feature_of_a_look_shows() -> None:
    """A parameter that changes no pixel would be a promise not kept."""
    rng = np.random.default_rng(3)
    rest, look = np.zeros((64, len(Muscle))), Look.draw(64, rng)
    base = draw_faces(rest, look, np.random.default_rng(0)).astype(int)
    for muscle in Muscle:
        moved = rest.copy()
        moved[:, muscle] = 1
        assert np.abs(draw_faces(moved, look, np.random.default_rng(0)) - base).max() > 20, muscle.name
    for name in vars(look):
        changed = replace(look, **{name: getattr(look, name)[::-1]})
        assert np.abs(draw_faces(rest, changed, np.random.default_rng(0)) - base).max() > 5, name


def test_no_pose_reaches_beyond_the_lines_that_are_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eyes and mouth are painted on a part of the lines only, to save time: it must not cut anything off."""
    rng = np.random.default_rng(4)
    look = Look.draw(256, rng)
    pose = ("turn", "shift_y", "yaw", "pitch", "scale", "eye_height", "mouth_height")
    extreme = {n: np.where(rng.random((256, 1, 1)) < 0.5, getattr(look, n).min(), getattr(look, n).max()) for n in pose}
    look = replace(look, **extreme)
    muscles = PROTOTYPES[rng.integers(0, 8, 256)] * 1.15
    expected = draw_faces(muscles, look, np.random.default_rng(0))
    monkeypatch.setattr(faces, "UPPER", slice(None))
    monkeypatch.setattr(faces, "LOWER", slice(None))
    assert np.array_equal(draw_faces(muscles, look, np.random.default_rng(0)), expected)


@pytest.mark.slow
@pytest.mark.thorough
def test_hard_enough_to_mean_something() -> None:
    """Bayes accuracy 85 to 92 %, a linear model on the pixels at most 60 %, on a balanced test split of 4,000."""
    table = draw(12_000, 104, 4000)
    test, train = part(table, "test"), part(table, "train")
    labels = test["label"].to_numpy()
    assert 0.85 <= (matrix(test, "posterior").argmax(1) == labels).mean() <= 0.92
    x, x_test = (
        np.stack([decode(i["bytes"]).ravel() for i in t["image"].to_pylist()]).astype(np.float32) / 255 - 0.5
        for t in (train, test)
    )
    # Fitted to convergence (else scikit-learn warns, which is an error here), with the default tol of 1e-4 in twice the
    # time to the same accuracy; C is near the best for the test split.
    model = LogisticRegression(C=0.1, max_iter=1000, tol=1e-3, class_weight="balanced")
    model.fit(x, train["label"].to_numpy())
    assert 0.35 < model.score(x_test, labels) <= 0.6  # chance is 0.125: less than the lower bound is a bad fit
