"""ECE against Guo's formula written out as loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.evaluation.calibration import gaps, reliability


def random_predictions(rows: int, seed: int, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p_NC = rng.dirichlet(np.full(classes, 0.6), rows).astype(np.float32)
    return p_NC, rng.integers(0, classes, rows)


def ece_by_loops(p_NC: np.ndarray, label_N: np.ndarray, bins: int) -> float:
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        inside = [n for n in range(len(p_NC)) if low < max(p_NC[n]) <= high]
        if inside:
            accuracy = np.mean([np.argmax(p_NC[n]) == label_N[n] for n in inside])
            confidence = np.mean([float(max(p_NC[n])) for n in inside])
            total += len(inside) / len(p_NC) * abs(accuracy - confidence)
    return total


@given(st.integers(1, 50), st.integers(0, 10**6), st.integers(2, 20))
def test_ece_as_written_by_guo(rows: int, seed: int, bins: int) -> None:
    p_NC, label_N = random_predictions(rows, seed)
    assert reliability(p_NC, label_N, bins).ece == pytest.approx(ece_by_loops(p_NC, label_N, bins), abs=1e-9)


@given(st.integers(1, 50), st.integers(0, 10**6))
def test_bins_hold_every_sample_once(rows: int, seed: int) -> None:
    p_NC, label_N = random_predictions(rows, seed)
    bins = reliability(p_NC, label_N, 15)
    assert bins.count.sum() == rows
    assert bins.accuracy @ bins.count == pytest.approx((p_NC.argmax(1) == label_N).sum())
    assert bins.confidence @ bins.count == pytest.approx(p_NC.max(1).sum(dtype=float))
    mean_gap = float(p_NC.max(1).mean(dtype=float)) - float((p_NC.argmax(1) == label_N).mean())
    assert bins.overconfidence == pytest.approx(mean_gap, abs=1e-9)
    assert abs(bins.overconfidence) <= bins.ece + 1e-12


def test_a_confidence_on_an_edge_belongs_below() -> None:
    bins = reliability(np.array([[0.5, 0.5], [1.0, 0.0], [0.75, 0.25]]), np.array([0, 0, 0]), 4)
    assert bins.count.tolist() == [0, 1, 1, 1]


def test_sure_and_right_is_perfect_and_sure_and_wrong_the_worst() -> None:
    p_NC = np.eye(3)
    assert reliability(p_NC, np.arange(3), 15).ece == 0
    assert reliability(p_NC, np.array([1, 2, 0]), 15).ece == 1


def test_calibrated_labels_have_a_small_error() -> None:
    rng = np.random.default_rng(0)
    p_NC = rng.dirichlet(np.ones(3), 20_000)
    label_N = (rng.random((20_000, 1)) > p_NC.cumsum(1)).sum(1)
    assert reliability(p_NC, label_N, 15).ece < 0.02
    assert reliability(p_NC, np.roll(label_N, 1), 15).ece > 0.1


@given(st.integers(1, 50), st.integers(0, 10**6), st.integers(2, 20))
def test_a_gap_is_in_the_bin_of_its_sample(rows: int, seed: int, bins: int) -> None:
    p_NC, label_N = random_predictions(rows, seed)
    gap_NB = gaps(p_NC, label_N, bins)
    assert gap_NB.shape == (rows, bins)
    for n in range(rows):
        confidence = float(max(p_NC[n]))
        expected = [0.0] * bins
        expected[int(np.ceil(confidence * bins)) - 1] = float(np.argmax(p_NC[n]) == label_N[n]) - confidence
        assert gap_NB[n].tolist() == expected
    assert np.abs(gap_NB.mean(axis=0)).sum() == pytest.approx(reliability(p_NC, label_N, bins).ece)


def test_the_ends_of_the_range_are_in_the_first_and_the_last_bin() -> None:
    """Rounding can take a float32 softmax a step beyond 1."""
    p_NC = np.array([[0.0, 0.0], [1.0, 0.0], [np.nextafter(np.float32(1), np.float32(2)), 0.0]], np.float32)
    assert reliability(p_NC, np.zeros(3, int), 4).count.tolist() == [1, 0, 0, 2]
    assert gaps(p_NC, np.zeros(3, int), 4)[0].tolist() == [1, 0, 0, 0]


def test_an_empty_bin_has_no_confidence_and_no_accuracy() -> None:
    bins = reliability(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]), 2)
    assert (bins.edges.tolist(), bins.count.tolist()) == ([0, 0.5, 1], [0, 2])
    np.testing.assert_allclose((bins.confidence, bins.accuracy), ([0, 0.85], [0, 0.5]))
