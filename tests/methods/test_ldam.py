"""LDAM-DRW against its formula, before and after re-weighting, on both heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from method_parts import context, minibatch, small_network

from nla.methods import Context, Minibatch
from nla.methods.ldam import LabelDistributionAwareMargin
from nla.models.classifier import Classifier
from nla.training.process_group import ProcessGroup

LABELS = [0] * 8 + [1] * 3 + [2]


def cosine_network() -> Classifier:
    linear = small_network()
    return Classifier(replace(linear.architecture, head="cosine"), linear.image)


@pytest.mark.parametrize("build", [small_network, cosine_network])
@pytest.mark.parametrize(("progress", "weighted"), [(0.0, False), (159 / 200, False), (160 / 200, True)])
def test_the_loss_against_the_formula(build: Callable[[], Classifier], progress: float, weighted: bool) -> None:
    """The authors' form: s (cos - m) at the label; from epoch 160 of 200 on, inverse effective numbers as weights.

    The weighted mean is one: equal losses of all samples are the loss of the batch, whatever the weights.
    """
    method = LabelDistributionAwareMargin(context(labels=LABELS), margin=0.4, beta=0.9)
    batch = minibatch(range(5), progress)
    outcome = method(build(), batch)
    inverse_C = np.array([1 / sum(0.9**i for i in range(LABELS.count(c))) for c in range(3)])
    weight_C = 3 * inverse_C / inverse_C.sum() if weighted else np.ones(3)
    losses, weights = [], []
    for z_C, label in zip(outcome.logits_NC.detach().double().numpy(), batch.target.tolist(), strict=True):
        cosine_C = z_C / 30
        cosine_C[label] -= 0.4 * LABELS.count(label) ** -0.25  # the rarest class has one sample
        losses.append(np.log(np.exp(30 * cosine_C).sum()) - 30 * cosine_C[label])
        weights.append(weight_C[label])
    np.testing.assert_allclose(outcome.loss.item(), np.average(losses, weights=weights), rtol=1e-4)


def test_reweighting_moves_weight_between_classes_but_keeps_the_scale() -> None:
    """FERPlus's training rows, all logits alike: the mean margin loss is 7.903, and the weighted one 10.430.

    The value is that of PyTorch's weighted cross-entropy, which the authors use. Averaged over samples it was 1.525.
    """
    counts = [8740, 7287, 3149, 3014, 2100, 119, 532, 119]
    label_M = torch.arange(8).repeat_interleave(torch.tensor(counts))
    run = Context(label_M, 8, ProcessGroup(torch.device("cpu")), small_network)
    method = LabelDistributionAwareMargin(run)
    lowered_NC = -torch.diag(method.margin_C)[label_M]
    expected = F.cross_entropy(lowered_NC, label_M, weight=1 / (1 - 0.9999 ** torch.tensor(counts).double()).float())
    assert expected.item() == pytest.approx(10.430, abs=1e-3)
    for progress, value in ((0.79, 7.903), (0.8, expected.item())):
        batch = Minibatch(label_M, label_M, label_M, progress)
        outcome = method(lambda index_N: torch.zeros(len(index_N), 8), batch)
        assert outcome.loss.item() == pytest.approx(value, abs=1e-3)


def test_a_distribution_is_the_mean_over_its_labels() -> None:
    method, network = LabelDistributionAwareMargin(context(labels=LABELS)), small_network().eval()
    batch, q_C = minibatch([4], progress=0.9), torch.tensor([0.2, 0.7, 0.1])
    losses = [method(network, batch._replace(target=torch.tensor([label]))).loss for label in range(3)]
    soft = method(network, batch._replace(target=q_C[None])).loss
    share_C = q_C * method.weight_C / (q_C * method.weight_C).sum()
    torch.testing.assert_close(soft, (share_C * torch.stack(losses)).sum())


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
