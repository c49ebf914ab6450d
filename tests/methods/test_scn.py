"""SCN: importance, ranks, new labels and their memory, against the formulas in NumPy."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from method_parts import context, minibatch, small_network
from method_reference import cross_entropies, double, softmax

from nla.errors import TrainingError
from nla.methods import Minibatch
from nla.methods.scn import (
    AS_GIVEN,
    SelfCure,
    corrected,
    high_samples,
    rank_regularisation,
    relabel,
    weighted_cross_entropy,
)
from nla.models.classifier import Classifier


def importances(network: Classifier, method: SelfCure, batch: Minibatch) -> np.ndarray:
    """sigmoid(w x + b) of the pooled features."""
    x_ND = double(network.maps(batch.images_NHWC)).mean(axis=(2, 3))
    return 1 / (1 + np.exp(-(x_ND @ double(method.importance.weight)[0] + method.importance.bias.item())))


def scn_loss(alpha_N: np.ndarray, z_NC: np.ndarray, target: np.ndarray, high: int, delta: float, gamma: float) -> float:
    """gamma L_RR + (1 - gamma) L_WCE."""
    descending = sorted(alpha_N, reverse=True)
    gap = np.mean(descending[:high]) - np.mean(descending[high:])
    return gamma * max(0.0, delta - gap) + (1 - gamma) * cross_entropies(alpha_N[:, None] * z_NC, target).mean()


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("soft", [False, True])
def test_two_passes_against_the_formulas(soft: bool, name: str) -> None:
    """Loss and memory by loops: new labels for some of the unimportant, which are the targets of the second pass."""
    network = small_network(name=name)
    method = SelfCure(
        context(12, name=name), beta=0.6, rank_margin=0.3, gamma=0.4, relabel_margin=0.001, relabel_from=0.0
    )
    batch = minibatch([7, 2, 5, 11, 0, 9, 4, 1])
    targets = np.eye(3)[batch.target] * 0.8 + 0.2 / 3
    if soft:
        batch = batch._replace(target=torch.from_numpy(targets).float())
    expected_M = np.full(12, AS_GIVEN)
    for step in range(2):
        with torch.no_grad():  # batch statistics: the same logits twice
            z_NC, alpha_N = double(network(batch.images_NHWC)), importances(network, method, batch)
        outcome = method(network, batch)
        used = targets.copy() if soft else np.eye(3)[batch.target]
        for row, index in enumerate(batch.index_N):
            if expected_M[index] != AS_GIVEN:
                used[row] = np.eye(3)[expected_M[index]]
        np.testing.assert_allclose(outcome.loss.item(), scn_loss(alpha_N, z_NC, used, 5, 0.3, 0.4), rtol=1e-5)
        np.testing.assert_allclose(double(outcome.logits_NC), z_NC, rtol=1e-5)
        p_NC = softmax(alpha_N[:, None] * z_NC)
        for row in np.argsort(alpha_N)[:3]:
            if p_NC[row].max() - p_NC[row, used[row].argmax()] > 0.001:
                expected_M[batch.index_N[row]] = p_NC[row].argmax()
        assert method.new_label.rows_M.tolist() == expected_M.tolist()
        if step == 0:
            changed = expected_M != AS_GIVEN
            assert 0 < changed.sum() <= 3
            assert (expected_M[changed] != np.arange(12)[changed] % 3).all()


def test_relabelling_starts_at_its_progress_and_is_kept() -> None:
    """A sample whose prediction has come round to its new label, or that is important by now, keeps what it has."""
    network, method = small_network(), SelfCure(context(8), relabel_margin=0.0, relabel_from=0.5)
    method(network, minibatch(range(8), progress=0.49))
    assert (method.new_label.rows_M == AS_GIVEN).all()
    method.new_label.rows_M[:] = network(minibatch(range(8)).images_NHWC).argmax(1)
    before = method.new_label.rows_M.clone()
    method(network, minibatch(range(8), progress=0.5))
    assert torch.equal(method.new_label.rows_M, before)
    method.new_label.rows_M[:] = (before + 1) % 3  # wrong again
    method(network, minibatch(range(8), progress=0.5))
    assert (method.new_label.rows_M == before).sum() == 2  # of low importance: 8 but round(.7 * 8)


def test_relabelling_at_its_margin() -> None:
    z_NC, alpha_N, given_N = torch.tensor([[2.0, 0.5, -1.0]]), torch.tensor([0.7]), torch.tensor([1])
    p_C = (0.7 * z_NC[0]).softmax(0)
    margin = np.float32((p_C[0] - p_C[1]).item())
    assert relabel(z_NC, alpha_N, given_N, float(margin)).tolist() == [AS_GIVEN]
    assert relabel(z_NC, alpha_N, given_N, float(np.nextafter(margin, np.float32(0)))).tolist() == [0]
    assert relabel(z_NC, alpha_N, torch.tensor([0]), 0.0).tolist() == [AS_GIVEN]  # right already


@given(st.lists(st.integers(1, 99), min_size=2, max_size=9, unique=True), st.floats(0.05, 0.95))
def test_ranks_by_sorting(percents: list[int], beta: float) -> None:
    size, ascending = len(percents), sorted(percents)
    high = high_samples(size, beta)
    assert 1 <= high < size and (abs(high - beta * size) <= 0.5 or high in (1, size - 1))
    gap = (np.mean(ascending[size - high :]) - np.mean(ascending[: size - high])) / 100
    high_N = torch.tensor(percents) >= ascending[size - high]
    loss = rank_regularisation(torch.tensor(percents) / 100, high_N, (high, size - high), 0.15)
    assert loss.item() == pytest.approx(max(0.0, 0.15 - gap), abs=1e-6)


@pytest.mark.parametrize(("margin", "gradient"), [(0.15, [0.0] * 4), (0.6, [-1 / 3, -1 / 3, 1.0, -1 / 3])])
def test_rank_regularisation_acts_only_within_its_margin(margin: float, gradient: list[float]) -> None:
    """Means of .8 and .3."""
    alpha_N = torch.tensor([0.9, 0.8, 0.3, 0.7], requires_grad=True)
    rank_regularisation(alpha_N, alpha_N > 0.5, (3, 1), margin).backward()
    assert alpha_N.grad is not None
    assert alpha_N.grad.tolist() == pytest.approx(gradient)


def test_a_batch_of_one_has_no_groups() -> None:
    alpha_N = torch.tensor([0.4])
    assert high_samples(1, 0.7) == 1
    assert rank_regularisation(alpha_N, alpha_N > 0, (1, 0), 0.15).isfinite()


def test_gradients_of_logits_and_importance() -> None:
    z_NC = torch.randn(5, 3, generator=torch.manual_seed(0)).requires_grad_()
    alpha_N = torch.rand(5, generator=torch.manual_seed(1)).requires_grad_()
    target = torch.tensor([0, 1, 2, 0, 1])
    loss = weighted_cross_entropy(z_NC, alpha_N, target)
    expected = cross_entropies(double(alpha_N)[:, None] * double(z_NC), target.numpy()).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    p_NC = softmax(double(alpha_N)[:, None] * double(z_NC))
    residual_NC = (p_NC - np.eye(3)[target]) / 5
    assert z_NC.grad is not None and alpha_N.grad is not None
    np.testing.assert_allclose(alpha_N.grad, (residual_NC * double(z_NC)).sum(1), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(z_NC.grad, residual_NC * double(alpha_N)[:, None], rtol=1e-4, atol=1e-7)


def test_corrected_targets() -> None:
    label_N = torch.tensor([AS_GIVEN, 2, AS_GIVEN])
    assert corrected(torch.tensor([0, 1, 2]), label_N).tolist() == [0, 2, 2]
    soft_NC = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
    assert corrected(soft_NC, label_N).tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
    assert corrected(soft_NC, label_N).dtype == soft_NC.dtype


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta must be in (0, 1) (got 0.0)"),
        ({"beta": 1.0}, "beta must be in (0, 1) (got 1.0)"),
        ({"rank_margin": 1.0}, "rank_margin must be in [0, 1) (got 1.0)"),
        ({"gamma": 1.5}, "gamma must be in [0, 1] (got 1.5)"),
        ({"relabel_margin": -0.1}, "relabel_margin must be in [0, 1] (got -0.1)"),
        ({"relabel_from": 2.0}, "relabel_from must be in [0, 1] (got 2.0)"),
    ],
)
def test_values_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SelfCure(context(), **options)


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"train.batch_size: scn compares two groups .* \(got 1\)"):
        SelfCure(context())(small_network(), minibatch([3]))


def test_a_batch_of_two_has_two_groups() -> None:
    assert SelfCure(context())(small_network(), minibatch([3, 4])).loss.isfinite()
