"""Losses of the baselines: an independent derivation of each in NumPy float64, its limits, and properties of all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nla.config.loss import LossConfig
from nla.losses import (
    ClassBalancedLoss,
    CrossEntropyLoss,
    FocalLoss,
    GeneralisedCrossEntropyLoss,
    LabelSmoothingLoss,
    LogitAdjustedLoss,
    SymmetricCrossEntropyLoss,
)
from nla.losses.class_balanced import class_weights
from nla.losses.functional import at_target
from nla.methods import METHODS, Context, build_method
from nla.methods.base import OneView
from nla.methods.ldam import margin_losses, margins
from nla.training.process_group import ProcessGroup

COUNTS = [50, 9, 3, 20]
CLASSES = len(COUNTS)


class Margins(nn.Module):
    """LDAM without its schedule, as a loss."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return at_target(margin_losses(logits, margins(torch.tensor(COUNTS), 1.5)), target).mean()


def registered() -> dict[str, nn.Module]:
    """Every method that is a loss of logits and targets only, with its published options."""
    label_N = torch.arange(CLASSES).repeat_interleave(torch.tensor(COUNTS))
    context = Context(label_N, CLASSES, ProcessGroup(torch.device("cpu")), build=lambda: pytest.fail("needs a network"))
    names = [name for name, entry in METHODS.items() if entry.method_class is OneView]
    return {name: build_method(LossConfig(name=name), context).loss for name in names}


LOSSES: dict[str, nn.Module] = registered() | {
    "focal, gamma .5": FocalLoss(gamma=0.5),
    "class_balanced, beta .9": ClassBalancedLoss(torch.tensor(COUNTS), beta=0.9),
    "logit_adjustment, tau 2": LogitAdjustedLoss(torch.tensor(COUNTS), tau=2.0),
    "ldam": Margins(),
}


def softmax(z_C: np.ndarray) -> np.ndarray:
    return np.exp(z_C) / np.exp(z_C).sum()


def weighted(z_C: np.ndarray, q_C: np.ndarray, beta: float) -> float:
    """The effective number as the series that it is the sum of: 1 + beta + ... + beta^(n - 1)."""
    inverse_C = np.array([1 / sum(beta**i for i in range(n)) for n in COUNTS])
    return float(-(q_C * inverse_C * CLASSES / inverse_C.sum() * np.log(softmax(z_C))).sum())


def adjusted(z_C: np.ndarray, q_C: np.ndarray, tau: float) -> float:
    """Products in place of sums of logarithms."""
    scores_C = np.array([np.exp(z) * (n / sum(COUNTS)) ** tau for z, n in zip(z_C, COUNTS, strict=True)])
    return float(-(q_C * np.log(scores_C / scores_C.sum())).sum())


def ldam(z_C: np.ndarray, q_C: np.ndarray) -> float:
    loss = 0.0
    for y in range(CLASSES):
        margin = 1.5 * (min(COUNTS) / COUNTS[y]) ** 0.25
        others = sum(np.exp(z_C[c]) for c in range(CLASSES) if c != y)
        loss -= q_C[y] * np.log(np.exp(z_C[y] - margin) / (np.exp(z_C[y] - margin) + others))
    return float(loss)


def sce(z_C: np.ndarray, q_C: np.ndarray) -> float:
    p_C = softmax(z_C)
    forth = -sum(q * np.log(p) for p, q in zip(p_C, q_C, strict=True))
    back = -sum(p * (max(np.log(q), -4) if q > 0 else -4) for p, q in zip(p_C, q_C, strict=True))
    return float(0.1 * forth + 1.0 * back)


def focal(z_C: np.ndarray, q_C: np.ndarray, gamma: float) -> float:
    return float(sum(-q * (1 - p) ** gamma * np.log(p) for p, q in zip(softmax(z_C), q_C, strict=True)))


FORMULAS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "ce": lambda z_C, q_C: float(-(q_C * np.log(softmax(z_C))).sum()),
    "label_smoothing": lambda z_C, q_C: float(-((0.9 * q_C + 0.1 / CLASSES) * np.log(softmax(z_C))).sum()),
    "focal": lambda z_C, q_C: focal(z_C, q_C, 2),
    "focal, gamma .5": lambda z_C, q_C: focal(z_C, q_C, 0.5),
    "class_balanced": lambda z_C, q_C: weighted(z_C, q_C, 0.9999),
    "class_balanced, beta .9": lambda z_C, q_C: weighted(z_C, q_C, 0.9),
    "logit_adjustment": lambda z_C, q_C: adjusted(z_C, q_C, 1),
    "logit_adjustment, tau 2": lambda z_C, q_C: adjusted(z_C, q_C, 2),
    "ldam": ldam,
    "gce": lambda z_C, q_C: sum(q * (1 - p**0.7) / 0.7 for p, q in zip(softmax(z_C), q_C, strict=True)),
    "sce": sce,
}


def batch(seed: int, n: int = 6, soft: bool = False) -> tuple[Tensor, Tensor]:
    """Logits, float64 [n, CLASSES], and targets."""
    rng = np.random.default_rng(seed)
    z = torch.from_numpy(rng.normal(0, 2, (n, CLASSES)))
    return z, torch.from_numpy(rng.dirichlet(np.ones(CLASSES), n) if soft else rng.integers(0, CLASSES, n))


def one_hot(target: Tensor) -> Tensor:
    return target if target.ndim == 2 else torch.eye(CLASSES, dtype=torch.float64)[target]


def formula(name: str, z_NC: np.ndarray, target: Tensor) -> float:
    return float(np.mean([FORMULAS[name](z_C, q_C) for z_C, q_C in zip(z_NC, one_hot(target).numpy(), strict=True)]))


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("n", [1, 7])
def test_value_against_the_formula(name: str, soft: bool, n: int) -> None:
    z, target = batch(3, n, soft)
    loss = LOSSES[name](z, target)
    assert (loss.dtype, loss.shape) == (torch.float32, ())
    assert loss.item() == pytest.approx(formula(name, z.numpy(), target), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("soft", [False, True])
def test_gradient_against_finite_differences(name: str, soft: bool) -> None:
    z, target = batch(5, soft=soft)
    expected, step = np.zeros(z.shape), 1e-5
    for i, c in np.ndindex(*z.shape):
        ends = []
        for sign in (+1, -1):
            moved = z.numpy().copy()
            moved[i, c] += sign * step
            ends.append(formula(name, moved, target))
        expected[i, c] = (ends[0] - ends[1]) / (2 * step)
    z.requires_grad_()
    LOSSES[name](z, target).backward()
    np.testing.assert_allclose(z.grad, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4, 6e4])
@pytest.mark.parametrize("soft", [False, True])
def test_values_and_gradients_are_finite(name: str, dtype: torch.dtype, size: float, soft: bool) -> None:
    """Sure and right, sure and wrong, undecided; half precision, and logits at the edge of float16."""
    rows = torch.tensor([[-1.0, 1, 0, 0], [1, -1, 0, 0], [1, 1, 1, 1]])
    z, target = (size * rows).to(dtype).requires_grad_(), torch.tensor([0, 0, 0])
    loss = LOSSES[name](z, one_hot(target) if soft else target)
    loss.backward()
    assert loss.isfinite() and z.grad is not None and z.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
@given(seed=st.integers(0, 2**32))
def test_a_hard_target_is_its_one_hot_distribution(name: str, seed: int) -> None:
    z, target = batch(seed)
    torch.testing.assert_close(LOSSES[name](z, one_hot(target)), LOSSES[name](z, target))


@pytest.mark.parametrize("name", LOSSES)
@given(seed=st.integers(0, 2**32), shift=st.floats(-20, 20), soft=st.booleans())
def test_invariant_to_order_and_to_a_shift_of_the_logits(name: str, seed: int, shift: float, soft: bool) -> None:
    z, target = batch(seed, soft=soft)
    order = torch.randperm(len(z), generator=torch.manual_seed(seed % 1000))
    torch.testing.assert_close(
        LOSSES[name](z[order] + shift, target[order]), LOSSES[name](z, target), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", LOSSES)
def test_the_mean_over_two_workers_is_the_loss_of_the_batch(name: str) -> None:
    z, target = batch(2, 8)
    halves = [LOSSES[name](z[part], target[part]) for part in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(torch.stack(halves).mean(), LOSSES[name](z, target))


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_of_a_loss_is_in_checkpoints(name: str) -> None:
    """Its weights follow from the labels."""
    assert not LOSSES[name].state_dict()
    for loss in (ClassBalancedLoss, LogitAdjustedLoss):
        assert not loss(EQUAL).state_dict()


EQUAL = torch.tensor([7] * CLASSES)


@pytest.mark.parametrize(
    "loss",
    [
        LabelSmoothingLoss(eps=0),
        FocalLoss(gamma=0),
        ClassBalancedLoss(torch.tensor(COUNTS), beta=0),
        ClassBalancedLoss(EQUAL),
        LogitAdjustedLoss(torch.tensor(COUNTS), tau=0),
        LogitAdjustedLoss(EQUAL),
        GeneralisedCrossEntropyLoss(q=1e-6),
        SymmetricCrossEntropyLoss(alpha=1, beta=0),
    ],
    ids=lambda loss: type(loss).__name__,
)
@pytest.mark.parametrize("soft", [False, True])
def test_at_a_limit_it_is_cross_entropy(loss: nn.Module, soft: bool) -> None:
    z, target = batch(8, soft=soft)
    torch.testing.assert_close(loss(z, target), CrossEntropyLoss()(z, target), rtol=2e-5, atol=0)


@pytest.mark.parametrize("soft", [False, True])
def test_without_a_margin_ldam_is_cross_entropy(soft: bool) -> None:
    z, target = batch(8, soft=soft)
    loss = at_target(margin_losses(z, torch.zeros(CLASSES)), target).mean()
    torch.testing.assert_close(loss, CrossEntropyLoss()(z, target))


def test_margins_of_equal_classes_are_equal() -> None:
    torch.testing.assert_close(margins(EQUAL, 0.5), torch.full((CLASSES,), 0.5))


def test_a_large_margin_keeps_its_digits() -> None:
    """log(1 + e^(15 - 16)), where 1 - p = e^-16 is less than a step of float32 below 1."""
    loss = margin_losses(torch.tensor([[16.0, 0.0]]), torch.tensor([15.0, 15.0]))[0, 0]
    assert loss.item() == pytest.approx(np.log1p(np.exp(-1)), rel=1e-5)


def test_with_q_1_or_alpha_0_it_is_linear_in_p() -> None:
    z, target = batch(9)
    p_N = torch.softmax(z, 1).gather(1, target[:, None]).float()
    torch.testing.assert_close(GeneralisedCrossEntropyLoss(q=1)(z, target), (1 - p_N).mean())
    torch.testing.assert_close(SymmetricCrossEntropyLoss(alpha=0)(z, target), 4 * (1 - p_N).mean())


def test_with_eps_1_the_label_does_not_matter() -> None:
    z, target = batch(10)
    loss = LabelSmoothingLoss(eps=1)
    torch.testing.assert_close(loss(z, target), loss(z, (target + 1) % CLASSES))
    assert loss(torch.zeros(1, CLASSES), torch.tensor([0])).item() == pytest.approx(np.log(CLASSES))


counts_lists = st.lists(st.integers(0, 10**6), min_size=2, max_size=9).filter(any)


@given(counts_lists, st.floats(0, 1 - 1e-9))
def test_weights_have_the_sum_c_and_fall_with_the_count(counts: list[int], beta: float) -> None:
    w_C = class_weights(torch.tensor(counts), beta)
    assert w_C.isfinite().all() and (w_C > 0).all()
    assert w_C.sum().item() == pytest.approx(len(counts), rel=1e-5)
    ranked = w_C[torch.tensor(counts).argsort()]
    assert (ranked.diff() <= 1e-6 * ranked[:-1]).all()


@given(counts_lists)
def test_the_rarest_class_has_the_largest_margin(counts: list[int]) -> None:
    m_C = margins(torch.tensor(counts), 0.5)
    assert m_C.max().item() == 0.5 and (m_C > 0).all()
    assert (m_C[torch.tensor(counts).argsort()].diff() <= 0).all()


def test_a_class_without_samples_counts_as_the_rarest() -> None:
    some, rare = torch.tensor([50, 0, 3, 20]), torch.tensor([50, 3, 3, 20])
    z, target = batch(11, soft=True)
    torch.testing.assert_close(class_weights(some, 0.999), class_weights(rare, 0.999))
    torch.testing.assert_close(margins(some, 0.5), margins(rare, 0.5))
    torch.testing.assert_close(LogitAdjustedLoss(some)(z, target), LogitAdjustedLoss(rare)(z, target))
    with pytest.raises(ValueError, match="no class has a sample"):
        class_weights(torch.zeros(3, dtype=torch.int64), 0.999)


def test_the_label_of_a_rare_class_costs_more() -> None:
    """Than that of a frequent class by the same logits, in the three losses that use the class counts."""
    z = torch.zeros(1, CLASSES)
    for name in ("class_balanced", "logit_adjustment", "ldam"):
        assert LOSSES[name](z, torch.tensor([2])) > LOSSES[name](z, torch.tensor([0])), name


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LabelSmoothingLoss(eps=1.1), r"eps must be in \[0, 1\] \(got 1\.1\)"),
        (lambda: FocalLoss(gamma=-1), r"gamma must be at least 0 \(got -1\)"),
        (lambda: FocalLoss(gamma=float("nan")), r"gamma must be at least 0 \(got nan\)"),
        (lambda: ClassBalancedLoss(EQUAL, beta=1), r"beta must be in \[0, 1\) \(got 1\)"),
        (lambda: LogitAdjustedLoss(EQUAL, tau=-0.5), r"tau must be at least 0 \(got -0\.5\)"),
        (lambda: GeneralisedCrossEntropyLoss(q=0), r"q must be in \(0, 1\] \(got 0\)"),
        (lambda: SymmetricCrossEntropyLoss(alpha=-1), r"alpha must be at least 0 \(got -1\)"),
        (lambda: SymmetricCrossEntropyLoss(beta=-1), r"beta must be at least 0 \(got -1\)"),
        (lambda: SymmetricCrossEntropyLoss(log_zero=0), r"log_zero must be below 0 \(got 0\)"),
    ],
)
def test_a_value_out_of_range_is_refused(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
