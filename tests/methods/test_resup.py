"""ReSup: the loss of both networks by loops, and the mixtures that an epoch leaves."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from method_parts import context, minibatch, small_network
from method_reference import cross_entropies, double, softmax

from nla.methods.beta_mixture import fit_beta_mixture
from nla.methods.resup import UNSEEN, ReSup, similarity


def cosines(z_NC: np.ndarray, q_NC: np.ndarray) -> np.ndarray:
    p_NC = softmax(z_NC)
    return np.array([p @ q / np.sqrt((p @ p) * (q @ q)) for p, q in zip(p_NC, q_NC, strict=True)])


@pytest.mark.parametrize("soft", [False, True])
def test_the_loss_and_gradients_of_both_networks(soft: bool) -> None:
    """Each is weighted by the other's table, at the other's similarity, and the weights have no gradient."""
    network, method = small_network(), ReSup(context(), lam=3.0)
    tables = np.random.default_rng(0).random((2, 100))
    tables[:, 40:60] = [[0.0], [1.0]]  # beyond the limits of the weights
    method.table_2B.copy_(torch.from_numpy(tables))
    batch = minibatch(range(9), progress=0.5)
    q_NC = np.eye(3)[batch.target] * (0.8 if soft else 1) + (0.2 / 3 if soft else 0)
    if soft:
        batch = batch._replace(target=torch.from_numpy(q_NC).float())
    twins = [deepcopy(network), deepcopy(method.peer)]
    outcome = method(network, batch)
    outcome.loss.backward()
    logits = [twin(batch.images_NHWC) for twin in twins]
    own, peer = (double(z_NC) for z_NC in logits)
    weights = [
        np.clip(table[(100 * cosines(z, q_NC)).astype(int)], 1e-4, 1 - 1e-4)
        for table, z in zip(tables, (own, peer), strict=True)
    ]
    losses = [cross_entropies(z, batch.target.numpy()) for z in (own, peer)]
    distance = ((softmax(own) - softmax(peer)) ** 2).mean(1)
    expected = (weights[1] * losses[0] + weights[0] * losses[1] + 3.0 * distance).mean()
    assert outcome.loss.item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(outcome.logits_NC, logits[0])
    ce = [F.cross_entropy(z_NC, batch.target, reduction="none") for z_NC in logits]
    again = torch.from_numpy(weights[1]).float() * ce[0] + torch.from_numpy(weights[0]).float() * ce[1]
    (again.mean() + 3.0 * F.mse_loss(logits[0].softmax(1), logits[1].softmax(1))).backward()
    for trained, twin in zip((network, method.peer), twins, strict=True):
        for (name, parameter), alone in zip(trained.named_parameters(), twin.named_parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, alone[1].grad, rtol=1e-4, atol=1e-6, msg=name)


def test_the_first_epoch_is_cross_entropy_of_both() -> None:
    network, method = small_network(), ReSup(context())
    batch = minibatch(range(6), progress=0.0)
    both = [F.cross_entropy(net(batch.images_NHWC), batch.target) for net in (network, method.peer)]
    torch.testing.assert_close(method(network, batch).loss, both[0] + both[1])


def test_an_epoch_leaves_the_mixtures_of_all_samples_that_it_saw() -> None:
    """In evaluation mode, of both networks; samples in no batch are left out."""
    network, method = small_network(), ReSup(context(samples=30))
    batches = [minibatch(range(12), 0.5), minibatch(range(12, 24), 0.5)]
    with torch.no_grad():
        method.end_epoch(network, iter(batches))
    rows_M2 = double(method.similarity.rows_M)
    assert (rows_M2[24:] == UNSEEN).all()
    for column, net in enumerate((network, method.peer)):
        assert not net.training
        with torch.no_grad():
            z_MC = np.concatenate([double(net(batch.images_NHWC)) for batch in batches])
        q_MC = np.concatenate([np.eye(3)[batch.target] for batch in batches])
        np.testing.assert_allclose(rows_M2[:24, column], cosines(z_MC, q_MC), rtol=1e-5)
        table_B = fit_beta_mixture(torch.from_numpy(rows_M2[:24, column]))
        torch.testing.assert_close(method.table_2B[column], table_B.table().float())
    assert not torch.equal(method.table_2B[0], method.table_2B[1])


def test_a_right_label_has_a_similarity_of_one_and_the_gradient_is_cut() -> None:
    z_NC = torch.tensor([[50.0, 0.0, 0.0]] * 2, requires_grad=True)
    found_N = similarity(z_NC, torch.tensor([0, 1]))
    torch.testing.assert_close(found_N, torch.tensor([1.0, 0.0]))
    assert not found_N.requires_grad


def test_both_networks_differ() -> None:
    network = small_network(1)
    method = ReSup(context())
    assert torch.equal(method.peer.feature_backbone.conv1.weight, network.feature_backbone.conv1.weight)
    assert not torch.equal(method.peer.feature_backbone.fc.weight, network.feature_backbone.fc.weight)


def test_a_value_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lam must be at least 0 \(got -1\.0\)"):
        ReSup(context(), lam=-1.0)
