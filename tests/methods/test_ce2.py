"""Cross-entropy of both views against its formula in NumPy, and against `plus` without its idea."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from method_parts import context, minibatch, small_network
from method_reference import double, softmax
from torch import Tensor

from nla.methods.ce2 import TwoViewCrossEntropy
from nla.methods.plus import Plus

LABELS = [0, 1, 2, 0, 0]
VOTES_NC = torch.tensor([[0.5, 0.3, 0.2], [0.0, 0.6, 0.4], [0.1, 0.1, 0.8]])


def expected(logits: np.ndarray, target_NC: np.ndarray, tau: float, lam: float) -> float:
    """The loss by loops; `logits` of the images, then of their mirror images."""
    prior = np.array([3, 1, 1]) / 5
    size, total = len(target_NC), 0.0
    for z, mirrored, q in zip(logits[:size], logits[size:], target_NC, strict=True):
        s, s2 = softmax(np.stack([z, mirrored]))
        middle = (s + s2) / 2
        divergence = ((s * np.log(s / middle)).sum() + (s2 * np.log(s2 / middle)).sum()) / 2
        for view in (s, s2):
            p = view * prior**tau / (view * prior**tau).sum()
            total -= (q * np.log(p)).sum() / 2
        total += lam * divergence
    return total / size


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("tau", "lam"), [(0.5, 0.5), (0.0, 0.0), (1.3, 2.0)])
def test_loss_against_the_formula(soft: bool, tau: float, lam: float) -> None:
    network, method = small_network(), TwoViewCrossEntropy(context(labels=LABELS), tau=tau, lam=lam)
    batch = minibatch([3, 1, 2], progress=0.7)
    target_NC = VOTES_NC if soft else torch.eye(3)[batch.target]
    if soft:
        batch = batch._replace(target=VOTES_NC)
    outcome = method(network, batch)
    logits = double(network(batch.images_NHWC, mirrored=True))
    np.testing.assert_allclose(outcome.loss.item(), expected(logits, target_NC.numpy(), tau, lam), rtol=1e-5)
    np.testing.assert_allclose(double(outcome.logits_NC), logits[:3], rtol=1e-4, atol=1e-5)


def gradients(method: torch.nn.Module, network: torch.nn.Module, progress: float) -> tuple[Tensor, list[Tensor]]:
    outcome = method(network, minibatch(range(5), progress))
    outcome.loss.backward()
    return outcome.loss, [p.grad for p in network.parameters() if p.grad is not None]


def test_it_is_plus_without_memory_doubt_and_ambiguity() -> None:
    """At a slope of 0, trust in the memory stays 0: the same loss and the same gradients."""
    network, options = small_network(), {"tau": 0.7, "lam": 0.3}
    twin = deepcopy(network)
    loss, own = gradients(TwoViewCrossEntropy(context(labels=LABELS), **options), network, 0.9)
    loss_of_plus, others = gradients(Plus(context(labels=LABELS), slope=0.0, **options), twin, 0.9)
    torch.testing.assert_close(loss, loss_of_plus, rtol=1e-6, atol=1e-6)
    assert len(own) == len(others) > 0
    torch.testing.assert_close(own, others, rtol=1e-5, atol=1e-6)


def test_it_has_no_state() -> None:
    method = TwoViewCrossEntropy(context())
    assert not list(method.parameters()) and not method.state_dict()


@pytest.mark.parametrize("option", ["tau", "lam"])
def test_values_out_of_range_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=rf"{option} must be at least 0 \(got -0\.1\)"):
        TwoViewCrossEntropy(context(), **{option: -0.1})
