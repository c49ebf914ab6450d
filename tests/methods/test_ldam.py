"""LDAM-DRW against its formula, before and after re-weighting, on both heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from method_parts import context, minibatch, small_network

from nla.methods.ldam import LabelDistributionAwareMargin
from nla.models.classifier import Classifier

LABELS = [0] * 8 + [1] * 3 + [2]


def cosine_network() -> Classifier:
    linear = small_network()
    return Classifier(replace(linear.architecture, head="cosine"), linear.image)


@pytest.mark.parametrize("build", [small_network, cosine_network])
@pytest.mark.parametrize(("progress", "weighted"), [(0.0, False), (159 / 200, False), (160 / 200, True)])
def test_the_loss_against_the_formula(build: Callable[[], Classifier], progress: float, weighted: bool) -> None:
    """The authors' form: s (cos - m) at the label; from epoch 160 of 200 on, inverse effective numbers as weights."""
    method = LabelDistributionAwareMargin(context(labels=LABELS), margin=0.4, beta=0.9)
    batch = minibatch(range(5), progress)
    outcome = method(build(), batch)
    inverse_C = np.array([1 / sum(0.9**i for i in range(LABELS.count(c))) for c in range(3)])
    weight_C = 3 * inverse_C / inverse_C.sum() if weighted else np.ones(3)
    losses = []
    for z_C, label in zip(outcome.logits_NC.detach().double().numpy(), batch.target.tolist(), strict=True):
        cosine_C = z_C / 30
        cosine_C[label] -= 0.4 * LABELS.count(label) ** -0.25  # the rarest class has one sample
        losses.append(weight_C[label] * (np.log(np.exp(30 * cosine_C).sum()) - 30 * cosine_C[label]))
    np.testing.assert_allclose(outcome.loss.item(), np.mean(losses), rtol=1e-4)


def test_a_distribution_is_the_mean_over_its_labels() -> None:
    method, network = LabelDistributionAwareMargin(context(labels=LABELS)), small_network().eval()
    batch = minibatch([4], progress=0.9)
    each = [method(network, batch._replace(target=torch.tensor([label]))).loss for label in range(3)]
    soft = method(network, batch._replace(target=torch.tensor([[0.2, 0.7, 0.1]]))).loss
    torch.testing.assert_close(soft, 0.2 * each[0] + 0.7 * each[1] + 0.1 * each[2])


def test_nothing_of_it_is_in_checkpoints() -> None:
    assert not LabelDistributionAwareMargin(context()).state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": -0.1}, r"margin must be at least 0 \(got -0\.1\)"),
        ({"defer": 1.5}, r"defer must be in \[0, 1\] \(got 1\.5\)"),
        ({"beta": 1.0}, r"beta must be in \[0, 1\) \(got 1\.0\)"),
    ],
)
def test_a_value_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelDistributionAwareMargin(context(), **options)
