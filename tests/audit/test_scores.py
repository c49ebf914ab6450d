"""Each score against its formula, written out by hand for one row at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nla.audit import scores
from nla.audit.table import VERDICTS
from nla.losses.naw import naw_weight


def probabilities(seed: int, epochs: int = 7, rows: int = 12, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """p_ENC float32 and labels."""
    rng = np.random.default_rng(seed)
    p_ENC = rng.dirichlet(np.full(classes, 0.5), (epochs, rows)).astype(np.float32)
    return p_ENC, rng.integers(0, classes, rows)


@pytest.mark.parametrize(("epochs", "late"), [(2, 2), (3, 2), (6, 2), (8, 2), (9, 4), (12, 4), (60, 20)])
def test_an_even_third_of_the_epochs_is_late(epochs: int, late: int) -> None:
    assert scores.late_epochs(epochs) == late
    p_ENC, _ = probabilities(0, epochs)
    np.testing.assert_allclose(scores.late_probabilities(p_ENC), p_ENC[epochs - late :].mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_single_rows(seed: int) -> None:
    p_ENC, label_N = probabilities(seed)
    found = scores.score_labels(p_ENC, label_N)
    for n, label in enumerate(label_N.tolist()):
        p = p_ENC[:, n].astype(float)
        late = p[-2:].mean(axis=0)
        nearest = max(late[k] for k in range(4) if k != label)
        assert found.self_confidence[n] == pytest.approx(late[label], rel=1e-5)
        assert found.margin[n] == pytest.approx(late[label] - nearest, abs=1e-6)
        logits = np.log(np.maximum(p, 1.17549435e-38))
        margins = [z[label] - max(z[k] for k in range(4) if k != label) for z in logits]
        assert found.area_under_margin[n] == pytest.approx(np.mean(margins), rel=1e-5)
        memory = 0.0
        for share in p[:, label]:
            memory = 0.7 * memory + 0.3 * share
        assert found.running_self_confidence[n] == pytest.approx(memory / (1 - 0.7**7), rel=1e-5)
        weight = naw_weight(torch.tensor(late).log()[None], torch.tensor([label]), 1.0)
        assert found.naw_weight[n] == pytest.approx(float(weight), abs=1e-5)


def test_verdicts() -> None:
    r_NC = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.5, 0.3, 0.2], [0.45, 0.35, 0.2], [0.51, 0.49, 0]])
    found = scores.verdicts(r_NC, np.array([0, 1, 0, 1, 0]), np.zeros(5, int))
    assert [VERDICTS[i] for i in found] == ["clean", "mislabelled", "ambiguous", "ambiguous", "clean"]


def test_a_wrong_label_is_found_and_a_right_one_is_not() -> None:
    """Rows of which a model is sure, a fifth of them with another label."""
    rng = np.random.default_rng(0)
    true_N = rng.integers(0, 4, 400)
    label_N = np.where(rng.random(400) < 0.2, (true_N + rng.integers(1, 4, 400)) % 4, true_N)
    sure_NC = 0.95 * np.eye(4)[true_N] + 0.05 * rng.dirichlet(np.ones(4), (4, 400))
    p_ENC = 0.8 * sure_NC + 0.2 / 3 * (1 - sure_NC)
    found = scores.score_labels(p_ENC, label_N)
    is_wrong_N = label_N != true_N
    assert found.score[is_wrong_N].min() > 0.5 > found.score[~is_wrong_N].max()
    assert found.noise.rate == pytest.approx(is_wrong_N.mean(), abs=0.04)
    assert (found.suggested == true_N).all()
    assert (found.verdict == np.where(is_wrong_N, VERDICTS.index("mislabelled"), VERDICTS.index("clean"))).all()


@given(seed=st.integers(0, 30))
def test_ranges(seed: int) -> None:
    p_ENC, label_N = probabilities(seed)
    p_ENC[:, 0] = np.eye(4)[0]  # certain, for the label or against it
    label_N[0] = seed % 4
    found = scores.score_labels(p_ENC, label_N)
    for name in ("score", "self_confidence", "running_self_confidence", "naw_weight", "ambiguity"):
        value_N = getattr(found, name)
        assert ((value_N >= 0) & (value_N <= 1 + 1e-6)).all(), name
    assert (np.abs(found.margin) <= 1).all()
    assert math.isfinite(found.area_under_margin.sum())
