"""RUL: mixed features and the add-up loss, against the formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from method_parts import context, minibatch, small_network
from method_reference import cross_entropies, double

from nla.errors import TrainingError
from nla.methods.rul import RelativeUncertainty, add_up, mixed


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("soft", [False, True])
def test_a_batch_against_the_formulas(soft: bool, name: str) -> None:
    """sigma, the mixture of each pair, and both cross-entropies, by loops; the pairs are those of the seed."""
    network, method = small_network(name=name), RelativeUncertainty(context(name=name), dimensions=5)
    batch = minibatch(range(7))
    if soft:
        batch = batch._replace(target=torch.rand(7, 3, generator=torch.manual_seed(0)).softmax(1))
    torch.nn.init.normal_(method.uncertainty[1].weight)
    torch.nn.init.normal_(method.uncertainty[1].bias)
    torch.manual_seed(5)
    outcome = method(network, batch)
    torch.manual_seed(5)
    partner_N = torch.randperm(7).tolist()
    assert partner_N != list(range(7))

    mu_ND = double(network.maps(batch.images_NHWC)).mean(axis=(2, 3))
    u_NK = mu_ND @ double(method.uncertainty[0].weight).T
    u_NK = (u_NK - u_NK.mean(0)) / np.sqrt(u_NK.var(0) + 1e-5)
    u_NK = u_NK * double(method.uncertainty[1].weight) + double(method.uncertainty[1].bias)
    sigma_N = np.exp(u_NK).mean(1)
    fc, loss = network.feature_backbone.fc, 0.0
    for i, j in enumerate(partner_N):
        mu_D = (sigma_N[i] * mu_ND[i] + sigma_N[j] * mu_ND[j]) / (sigma_N[i] + sigma_N[j])
        z_C = double(fc.weight) @ mu_D + double(fc.bias)
        for y in (batch.target[i], batch.target[j]):
            loss += cross_entropies(z_C[None], y.numpy()[None]).item() / 2 / 7
    np.testing.assert_allclose(outcome.loss.item(), loss, rtol=1e-4)
    np.testing.assert_allclose(double(outcome.logits_NC), mu_ND @ double(fc.weight).T + double(fc.bias), rtol=1e-4)
    assert not outcome.logits_NC.requires_grad


def test_the_more_uncertain_sample_weighs_more_and_a_pair_of_one_is_itself() -> None:
    features_ND = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 5.0]])
    log_sigma_N = torch.tensor([3.0, 1.0, 2.0]).log()
    mixture_ND = mixed(features_ND, log_sigma_N, torch.tensor([1, 0, 2]))
    torch.testing.assert_close(mixture_ND, torch.tensor([[0.75, 0.25], [0.75, 0.25], [3.0, 5.0]]))


def test_gradients_go_to_both_samples_and_both_uncertainties() -> None:
    generator = torch.manual_seed(0)
    features_ND = torch.randn(4, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    log_sigma_N = torch.randn(4, dtype=torch.float64, generator=generator, requires_grad=True)
    partner_N = torch.tensor([1, 2, 3, 0])
    assert torch.autograd.gradcheck(lambda x, s: mixed(x, s, partner_N), (features_ND, log_sigma_N))
    one = mixed(features_ND, log_sigma_N, partner_N)[0]
    gradients = torch.autograd.grad(one.sum(), (features_ND, log_sigma_N))
    for gradient in gradients:
        assert [bool(row.any()) for row in gradient] == [True, True, False, False]


def test_training_raises_the_weight_of_a_sample_that_is_hard_to_recognise() -> None:
    """Two samples with the same uncertainty, the second of small features: the loss raises its share."""
    features_ND, classifier = torch.tensor([[4.0, 0.0], [0.0, 1.0]]), torch.eye(2)
    log_sigma_N = torch.zeros(2, requires_grad=True)
    partner_N, target = torch.tensor([1, 0]), torch.tensor([0, 1])
    add_up(mixed(features_ND, log_sigma_N, partner_N) @ classifier, target, partner_N).backward()
    assert log_sigma_N.grad is not None
    assert log_sigma_N.grad[0] > 0 > log_sigma_N.grad[1]


def test_very_different_uncertainties_are_finite() -> None:
    log_sigma_N = torch.tensor([500.0, -500.0], requires_grad=True)
    mixture_ND = mixed(torch.eye(2), log_sigma_N, torch.tensor([1, 0]))
    mixture_ND.sum().backward()
    assert mixture_ND.tolist() == [[1, 0], [1, 0]]
    assert log_sigma_N.grad is not None and log_sigma_N.grad.isfinite().all()


def test_values_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"dimensions must be from 1 to 65536 \(got 0\)"):
        RelativeUncertainty(context(), dimensions=0)


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"train.batch_size: rul mixes two samples .* \(got 1\)"):
        RelativeUncertainty(context())(small_network(), minibatch([3]))
