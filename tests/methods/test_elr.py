"""ELR against its formula, written out in NumPy over several steps."""

from __future__ import annotations

import numpy as np
import torch
from method_parts import context, minibatch, small_network
from method_reference import softmax
from torch.autograd import gradcheck

from nla.methods.elr import EarlyLearning, early_learning, remember


def test_three_steps_against_the_formula() -> None:
    """t and L of each sample by loops; index 3 is seen twice, index 0 once, the others never."""
    network, method = small_network(), EarlyLearning(context(samples=5), lam=2.0, beta=0.6)
    t = np.zeros((5, 3))
    for indices in ([3, 0], [3, 1], [3, 1]):
        batch = minibatch(indices)
        outcome = method(network, batch)
        p_NC = softmax(outcome.logits_NC.detach().double().numpy())
        loss = 0.0
        for i, (p, label) in enumerate(zip(p_NC, batch.target, strict=True)):
            t[indices[i]] = 0.6 * t[indices[i]] + 0.4 * p
            loss += (-np.log(p[label]) + 2.0 * np.log(1 - p @ t[indices[i]])) / len(indices)
        np.testing.assert_allclose(outcome.loss.item(), loss, rtol=1e-4)
        np.testing.assert_allclose(method.mean.rows_M, t, atol=2e-4)  # the clamp at 1e-4
    assert not method.mean.rows_M[[2, 4]].any()


def test_the_gradient_flows_only_through_the_prediction() -> None:
    z_NC = torch.randn(4, 3, dtype=torch.float64, generator=torch.manual_seed(0))
    memory_NC = torch.softmax(z_NC.flip(0), 1).float().requires_grad_()
    z_NC.requires_grad_()
    early_learning(z_NC, memory_NC).backward()
    assert memory_NC.grad is None and z_NC.grad is not None and z_NC.grad.abs().max() > 0
    assert not remember(memory_NC, z_NC, 0.5).detach().requires_grad
    assert gradcheck(lambda z: early_learning(z.float(), memory_NC).double(), z_NC, eps=1e-3, atol=1e-2)


def test_confident_predictions_and_memories_are_finite() -> None:
    z_NC = torch.tensor([[1e4, 0.0, 0.0]], requires_grad=True)
    memory_NC = remember(torch.zeros(1, 3), z_NC, 0.0)
    loss = early_learning(z_NC, memory_NC)
    loss.backward()
    assert loss.isfinite() and z_NC.grad is not None and z_NC.grad.isfinite().all()


def test_probabilities_keep_their_distance_from_0_and_1() -> None:
    """1e-4, as in the authors' code: p is [1 - 1e-4, 1e-4, 1e-4] before it is scaled."""
    z_NC = torch.tensor([[50.0, 0.0, 0.0]])
    expected = np.array([1 - 1e-4, 1e-4, 1e-4]) / (1 + 1e-4)
    np.testing.assert_allclose(remember(torch.zeros(1, 3), z_NC, 0.0)[0], expected, rtol=1e-6)
    memory_NC = torch.tensor([[0.0, 0.5, 0.5]])
    np.testing.assert_allclose(early_learning(z_NC, memory_NC), np.log(1 - 1e-4), rtol=1e-2)
    np.testing.assert_allclose(early_learning(z_NC, torch.tensor([[1.0, 0.0, 0.0]])), np.log(1e-4), rtol=1e-3)
