"""The terms of NLA plus: continuous where the label begins to lose, and within their ranges."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from nla.losses.functional import ramp_up
from nla.methods.plus import ambiguity, doubt, margin, mixed_target, running_mean

margins = st.floats(-1, 1, width=32)
deviations = st.floats(0.05, 2.0)


@given(margins, deviations)
def test_ambiguity_is_symmetric_and_highest_at_0(a: float, s: float) -> None:
    left, right, middle = ambiguity(torch.tensor([-a, a, 0.0]), s)
    assert left == right and 0 <= right <= middle == 1


@given(margins, deviations)
def test_only_a_label_that_loses_is_doubted(a: float, s: float) -> None:
    (found,) = doubt(torch.tensor([a]), s)
    assert 0 <= found <= 1
    assert (
        found == 0
        if a >= 0
        else found == pytest.approx(1 - float(torch.exp(torch.tensor(-a * a / (2 * s * s)))), abs=1e-6)
    )


@pytest.mark.parametrize("part", [ambiguity, doubt])
def test_there_is_no_jump(part: Callable[[torch.Tensor, float], torch.Tensor]) -> None:
    """A step of a thousandth moves neither by more than the steepest Gaussian allows: exp(-1/2) / s."""
    a_N = torch.linspace(-1, 1, 2001)
    assert part(a_N, 0.4).diff().abs().max() < 1.01 * 0.001 * torch.tensor(-0.5).exp() / 0.4


def test_the_margin_is_that_of_the_given_label() -> None:
    mean_NC = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [0.0, 1.0, 0.0]])
    votes_NC = torch.eye(3)[[0, 1, 0, 0]] * 0.6 + 0.4 / 3
    for target in (torch.tensor([0, 1, 0, 0]), votes_NC):
        torch.testing.assert_close(margin(mean_NC, target), torch.tensor([0.2, -0.2, 0.0, -1.0]))


def test_a_target_is_between_label_and_prediction() -> None:
    mean_NC, share_N = torch.tensor([[0.2, 0.8], [0.2, 0.8], [0.2, 0.8]]), torch.tensor([0.0, 0.25, 1.0])
    q_NC = mixed_target(torch.tensor([0, 0, 0]), mean_NC, share_N)
    torch.testing.assert_close(q_NC, torch.tensor([[1.0, 0.0], [0.8, 0.2], [0.2, 0.8]]))
    votes_NC = torch.tensor([[0.6, 0.4]] * 3)
    torch.testing.assert_close(mixed_target(votes_NC, mean_NC, share_N)[1], torch.tensor([0.5, 0.5]))


def test_the_mean_forgets_by_beta_and_has_no_gradient() -> None:
    p_NC = torch.tensor([[0.9, 0.1]], requires_grad=True)
    memory_NC = running_mean(torch.zeros(1, 2), p_NC, 0.75)
    assert not memory_NC.requires_grad
    memory_NC = running_mean(memory_NC, torch.tensor([[0.1, 0.9]]), 0.75)
    torch.testing.assert_close(memory_NC.sum(), torch.tensor(1 - 0.75**2))
    torch.testing.assert_close(memory_NC, torch.tensor([[0.75 * 0.225 + 0.025, 0.75 * 0.025 + 0.225]]))


def test_trust_grows_from_0() -> None:
    found = [ramp_up(progress / 10, 3.0) for progress in range(10)]
    assert found[0] == 0 and found == sorted(found) and found[-1] < 1
    assert ramp_up(0.9, 0.0) == 0
