"""Co-teaching: how many samples are selected, which, and for which network."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from method_parts import context, minibatch, small_network
from method_reference import cross_entropies, double

from nla.methods.co_teaching import CoTeaching, label_divergence, mean_of_selected, selected_count


@given(st.integers(1, 4096), st.integers(0, 9), st.integers(0, 99))
def test_selected_count_against_exact_fractions(size: int, tenths: int, hundredths: int) -> None:
    """R by exact fractions, with a ramp of a fifth of the training."""
    share = 1 - Fraction(tenths, 10) * min(Fraction(hundredths, 20), 1)
    assert selected_count(size, hundredths / 100, tenths / 10, 0.2) == math.ceil(size * share)


@pytest.mark.parametrize(("epoch", "kept"), [(0, 100), (1, 98), (5, 90), (9, 82), (10, 80), (199, 80)])
def test_the_published_ramp(epoch: int, kept: int) -> None:
    """10 of 200 epochs."""
    assert selected_count(100, epoch / 200, 0.2, 0.05) == kept


def chosen_by(losses: np.ndarray, kept: int) -> list[int]:
    return sorted(range(len(losses)), key=lambda i: losses[i])[:kept]


@pytest.mark.parametrize(("progress", "kept"), [(0.0, 9), (0.025, 7), (0.9, 5)])
@pytest.mark.parametrize("soft", [False, True])
def test_each_network_learns_from_the_small_losses_of_the_other(progress: float, kept: int, soft: bool) -> None:
    """The loss by loops; the gradients of both networks are those of plain means over the chosen samples."""
    network, method = small_network(), CoTeaching(context(), forget_rate=0.5)
    batch = minibatch(range(9), progress)
    if soft:
        batch = batch._replace(target=torch.rand(9, 3, generator=torch.manual_seed(0)).softmax(1))
    twins = [deepcopy(network), deepcopy(method.peer)]
    outcome = method(network, batch)
    outcome.loss.backward()
    logits = [twin(batch.images_NHWC) for twin in twins]
    losses = [cross_entropies(double(z_NC), batch.target.numpy()) for z_NC in logits]
    floor_N = 0.0 if not soft else -(batch.target * batch.target.log()).sum(1).double().numpy()
    chosen = [chosen_by(of_other - floor_N, kept) for of_other in reversed(losses)]
    expected = sum(of_own[rows].mean() for of_own, rows in zip(losses, chosen, strict=True))
    np.testing.assert_allclose(outcome.loss.item(), expected, rtol=1e-5)
    np.testing.assert_allclose(double(outcome.logits_NC), double(logits[0]), rtol=1e-5)
    for trained, twin, z_NC, rows in zip((network, method.peer), twins, logits, chosen, strict=True):
        F.cross_entropy(z_NC[rows], batch.target[rows]).backward()
        for (name, parameter), alone in zip(trained.named_parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, alone.grad, rtol=1e-4, atol=1e-6, msg=name)
    if kept < 9:
        assert chosen[0] != chosen[1]


def test_divided_votes_do_not_look_mislabelled() -> None:
    """A divided vote that is predicted as it is costs more than a label with .55, and label_divergences less."""
    loss_N = torch.tensor([math.log(2), -math.log(0.55)])
    target_NC = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    torch.testing.assert_close(label_divergence(loss_N, target_NC), torch.tensor([0.0, -math.log(0.55)]))
    assert label_divergence(loss_N, torch.tensor([0, 0])) is loss_N


def test_samples_left_out_have_no_loss_and_no_gradient() -> None:
    loss_N = torch.tensor([1.0, math.inf, 2.0], requires_grad=True)
    mean = mean_of_selected(loss_N, torch.tensor([1, 2, 0]), 2)
    mean.backward()
    assert mean.item() == 1.5
    assert loss_N.grad is not None and loss_N.grad.tolist() == [0.5, 0, 0.5]


def test_both_networks_differ_even_from_the_same_weights() -> None:
    """As with pretrained ones: two equal networks would stay equal, and choose like one."""
    network = small_network()
    peer = CoTeaching(replace(context(), build=lambda: deepcopy(network))).peer
    assert torch.equal(peer.feature_backbone.conv1.weight, network.feature_backbone.conv1.weight)
    assert not torch.equal(peer.feature_backbone.fc.weight, network.feature_backbone.fc.weight)
    assert not torch.equal(peer.feature_backbone.fc.bias, network.feature_backbone.fc.bias)


@pytest.mark.parametrize("options", [{"forget_rate": 1.0}, {"forget_rate": -0.1}, {"ramp": 0.0}, {"ramp": 1.1}])
def test_values_out_of_range(options: dict[str, float]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=rf"{name} must be in [\[(]0, 1[\])] \(got {value}\)"):
        CoTeaching(context(), **options)
