"""mixup: the pairs and the ratio are recovered from the network's input, and the loss recomputed from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from method_parts import CLASSES, SIZE, context, minibatch, small_network
from torch import Tensor, nn

from nla.losses import CrossEntropyLoss
from nla.methods import Outcome
from nla.methods.mixup import Mixup, mix, mixed_cross_entropy


class Watched(nn.Module):
    """A linear network that keeps the images which it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.seen = nn.Linear(SIZE * SIZE, CLASSES), torch.empty(0)

    def forward(self, images_NHWC: Tensor) -> Tensor:
        self.seen = images_NHWC
        return self.linear(images_NHWC.flatten(1) / 255)


def watched_step(alpha: float, n: int, seed: int) -> tuple[Tensor, Outcome]:
    torch.manual_seed(seed)
    network = Watched()
    outcome = Mixup(context(), alpha=alpha)(network, minibatch(range(n)))  # type: ignore[arg-type]
    return network.seen.double(), outcome


def explained(seen: Tensor, images: Tensor, i: int) -> tuple[int, float]:
    """j and lam by which seen_i = lam x_i + (1 - lam) x_j fits best; i and 1 where nothing is mixed in."""
    gone = (seen[i] - images[i]).flatten()
    if gone.abs().max() < 1e-3:
        return i, 1.0
    fits = []
    for j in set(range(len(images))) - {i}:
        away = (images[j] - images[i]).flatten()
        share = float(away @ gone / (away @ away))
        fits.append((float((gone - share * away).norm()), j, 1 - share))
    error, j, lam = min(fits)
    assert error < 1e-2
    return j, lam


@pytest.mark.parametrize("seed", range(4))
def test_images_and_labels_are_mixed_in_one_ratio(seed: int) -> None:
    batch = minibatch(range(7))
    seen, outcome = watched_step(1.0, 7, seed)
    pairs = [explained(seen, batch.images_NHWC.double(), i) for i in range(7)]
    assert sorted(j for j, _ in pairs) == list(range(7))
    ratios = [lam for i, (j, lam) in enumerate(pairs) if j != i]
    lam = ratios[0]
    np.testing.assert_allclose(ratios, lam, atol=1e-5)
    assert 0.5 <= lam < 1
    losses = []
    for i, z_C in enumerate(outcome.logits_NC.detach().double().numpy()):
        q_C = np.zeros(CLASSES)
        q_C[batch.target[i]] += lam
        q_C[batch.target[pairs[i][0]]] += 1 - lam
        losses.append(-(q_C * (z_C - np.log(np.exp(z_C).sum()))).sum())
    np.testing.assert_allclose(outcome.loss.item(), np.mean(losses), rtol=1e-4)


@pytest.mark.parametrize(
    ("alpha", "below"),
    [
        (1.0, lambda lam_N: 2 * lam_N - 1),  # uniform
        (0.5, lambda lam_N: 2 / np.pi * (np.arcsin(np.sqrt(lam_N)) - np.arcsin(np.sqrt(1 - lam_N)))),  # arcsine law
    ],
)
def test_ratios_are_those_of_a_beta(alpha: float, below: Callable[[np.ndarray], np.ndarray]) -> None:
    """Kolmogorov-Smirnov: 1.63 / sqrt(n) is the distance that one true sample in a hundred exceeds."""
    n, images = 400, minibatch([0, 1]).images_NHWC.double()
    ratios = []
    for seed in range(2 * n):
        seen, _ = watched_step(alpha, 2, seed)
        j, lam = explained(seen, images, 0)
        ratios += [lam] if j == 1 else []  # a permutation of two leaves both in their place half the time
    assert abs(len(ratios) - n) < 4 * np.sqrt(n / 2)
    rank_N = (np.arange(len(ratios)) + 0.5) / len(ratios)
    assert np.abs(below(np.sort(ratios)) - rank_N).max() < 1.63 / np.sqrt(len(ratios))


def test_a_tiny_alpha_is_cross_entropy() -> None:
    batch = minibatch(range(8))
    for seed in range(20):
        seen, outcome = watched_step(0.01, 8, seed)
        if (seen - batch.images_NHWC).abs().max() < 1e-3:
            torch.testing.assert_close(outcome.loss, CrossEntropyLoss()(outcome.logits_NC, batch.target))
            return
    raise AssertionError("no ratio near 1 in twenty draws")


def test_only_pytorchs_random_state_matters() -> None:
    first, again, other = (watched_step(1.0, 8, seed)[0] for seed in (5, 5, 6))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.allclose(first, other)


def test_mixing_and_normalising_commute() -> None:
    network, images, partner_N = small_network(), minibatch(range(4)).images_NHWC, torch.tensor([2, 0, 3, 1])
    before, after = network.normalise(mix(images, partner_N, 0.7)), mix(network.normalise(images), partner_N, 0.7)
    torch.testing.assert_close(before, after)


@given(st.integers(0, 2**32), st.floats(0, 1), st.booleans())
def test_one_minus_lam_with_the_inverse_permutation_is_the_same_mix(seed: int, lam: float, soft: bool) -> None:
    generator = torch.manual_seed(seed)
    images, z_NC = torch.rand(6, 3, 3, 1, generator=generator), torch.randn(6, CLASSES, generator=generator)
    q_NC = torch.rand(6, CLASSES, generator=generator).softmax(1)
    target, partner_N = q_NC if soft else q_NC.argmax(1), torch.randperm(6, generator=generator)
    inverse_N = partner_N.argsort()
    torch.testing.assert_close(mix(images, partner_N, lam), mix(images, inverse_N, 1 - lam)[partner_N])
    loss = mixed_cross_entropy(z_NC, target, partner_N, lam)
    torch.testing.assert_close(mixed_cross_entropy(z_NC[inverse_N], target, inverse_N, 1 - lam), loss)


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_hard_targets_are_their_one_hot_distributions(seed: int, lam: float) -> None:
    generator = torch.manual_seed(seed)
    z_NC, target = torch.randn(6, CLASSES, generator=generator), torch.randint(0, CLASSES, (6,), generator=generator)
    partner_N, one_hot = torch.randperm(6, generator=generator), torch.eye(CLASSES)[target]
    loss = mixed_cross_entropy(z_NC, target, partner_N, lam)
    torch.testing.assert_close(mixed_cross_entropy(z_NC, one_hot, partner_N, lam), loss)
    mixed_NC = lam * one_hot + (1 - lam) * one_hot[partner_N]
    torch.testing.assert_close(CrossEntropyLoss()(z_NC, mixed_NC), loss)


@pytest.mark.parametrize("alpha", [0.0, 0.001, -1.0])
def test_a_value_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=rf"alpha must be at least 0.01 \(got {alpha}\)"):
        Mixup(context(), alpha=alpha)
