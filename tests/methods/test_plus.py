"""NLA plus against its formula, written out in NumPy over several steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from method_parts import context, minibatch, small_network
from method_reference import softmax

from nla.methods.plus import Plus


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float((p * np.log(p / q)).sum())


def test_three_steps_against_the_formula() -> None:
    """By loops; index 3 is seen three times, index 1 twice, index 0 once, the others never."""
    labels = [0, 1, 2, 0, 0]
    k, s, doubt_s, beta, slope, tau, lam = 0.8, 0.3, 0.5, 0.6, 2.0, 0.7, 0.4
    options = {"boost": k, "deviation": s, "doubt_deviation": doubt_s, "beta": beta, "slope": slope, "tau": tau}
    network, method = small_network(), Plus(context(labels=labels), lam=lam, **options)
    prior = np.array([3, 1, 1]) / 5
    memory = np.zeros((5, 3))
    doubtful = 0
    for progress, indices in ((0.0, [3, 0]), (0.5, [3, 1]), (0.9, [1, 3])):
        batch = minibatch(indices, progress)
        network.train()
        outcome = method(network, batch)
        with torch.no_grad():
            views = network(batch.images_NHWC, mirrored=True).double().numpy()
        first, second = views[: len(indices)], views[len(indices) :]
        trusted, loss = 1 - np.exp(-slope * progress), 0.0
        for i, label in enumerate(batch.target.tolist()):
            p, p2 = softmax(np.stack([first[i], second[i]]) + tau * np.log(prior))
            s1, s2 = softmax(np.stack([first[i], second[i]]))
            memory[indices[i]] = beta * memory[indices[i]] + (1 - beta) * (s1 + s2) / 2
            m = memory[indices[i]] / memory[indices[i]].sum()
            a = m[label] - max(m[c] for c in range(3) if c != label)
            doubtful += a < 0 < trusted
            d = 1 - np.exp(-(min(a, 0) ** 2) / (2 * doubt_s**2))
            seen = m * prior**tau / (m * prior**tau).sum()
            q = (1 - trusted * d) * np.eye(3)[label] + trusted * d * seen
            weight = 1 + k * trusted * np.exp(-(a**2) / (2 * s**2))
            jsd = (kl(s1, (s1 + s2) / 2) + kl(s2, (s1 + s2) / 2)) / 2
            loss += (weight * (-(q * np.log(p)).sum() - (q * np.log(p2)).sum()) / 2 + lam * jsd) / len(indices)
        np.testing.assert_allclose(outcome.loss.item(), loss, rtol=1e-4)
        np.testing.assert_allclose(method.mean.rows_M, memory, atol=1e-5)
        np.testing.assert_allclose(outcome.logits_NC.detach(), first, atol=1e-4)
    assert doubtful, "a label that loses is among them"
    assert not method.mean.rows_M[[2, 4]].any()


def test_a_label_is_not_doubted_because_it_is_rare() -> None:
    """A network that knows nothing predicts the frequent class: the rare label loses, and is no less its target."""
    labels = [0] * 99 + [1, 2]
    network, method = small_network(), Plus(context(labels=labels), tau=1.0, boost=0.0, lam=0.0)
    with torch.no_grad():
        network.backbone.fc.weight.zero_()
        network.backbone.fc.bias.zero_()
    outcome = method(network, minibatch([99], progress=0.9)._replace(target=torch.tensor([1])))
    torch.testing.assert_close(outcome.loss, torch.tensor(101.0).log(), rtol=1e-4, atol=1e-4)


def test_at_the_start_it_is_cross_entropy_of_both_views() -> None:
    network, method = small_network(), Plus(context(), boost=5.0, tau=0.0, lam=0.0)
    batch = minibatch(range(4), progress=0.0)
    logits = network(batch.images_NHWC, mirrored=True)
    both = torch.nn.functional.cross_entropy(logits, batch.target.repeat(2))
    torch.testing.assert_close(method(network, batch).loss, both, rtol=1e-4, atol=1e-5)


def test_unanimous_votes_are_labels() -> None:
    batch = minibatch(range(4), progress=0.5)
    votes_NC = torch.nn.functional.one_hot(batch.target, 3).float()
    losses = [
        Plus(context())(small_network(), batch._replace(target=target)).loss for target in (batch.target, votes_NC)
    ]
    torch.testing.assert_close(*losses)


def test_divided_votes_are_the_target_at_the_start() -> None:
    """At the start, the target is the votes' distribution, and the loss its cross-entropy."""
    network, method = small_network(), Plus(context(), tau=0.0, lam=0.0)
    batch = minibatch(range(4), progress=0.0)
    votes_NC = torch.tensor([[0.5, 0.3, 0.2], [0.0, 0.6, 0.4], [0.1, 0.1, 0.8], [1.0, 0.0, 0.0]])
    logits = network(batch.images_NHWC, mirrored=True)
    expected = torch.nn.functional.cross_entropy(logits, votes_NC.repeat(2, 1))
    loss = method(network, batch._replace(target=votes_NC)).loss
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tau", [0.0, 1.0, 50.0])
def test_a_class_without_samples_and_an_extreme_adjustment_are_finite(tau: float) -> None:
    network, method = small_network(), Plus(context(labels=[0] * 11 + [1]), tau=tau)
    for _ in range(3):
        loss = method(network, minibatch([0, 3, 9], progress=0.9)).loss
        loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


def test_confident_predictions_are_finite() -> None:
    network, method = small_network(), Plus(context())
    with torch.no_grad():
        network.backbone.fc.bias.copy_(torch.tensor([0.0, 300.0, 0.0]))
    for _ in range(2):
        loss = method(network, minibatch([0, 1], progress=0.9)).loss
        loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boost": -1.0}, r"boost must be at least 0 \(got -1\.0\)"),
        ({"beta": 1.0}, r"beta must be in \[0, 1\) \(got 1\.0\)"),
        ({"deviation": 0.0}, r"^deviation must be above 0 \(got 0\.0\)"),
        ({"doubt_deviation": 0.0}, r"doubt_deviation must be above 0 \(got 0\.0\)"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plus(context(), **options)
