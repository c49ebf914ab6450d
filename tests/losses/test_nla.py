"""The NLA loss: an independent derivation of values and gradients, and properties for any input."""

from __future__ import annotations

from dataclasses import fields

import loss_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nla.losses import CrossEntropyLoss, NLALoss, naw_weight
from nla.losses.functional import bhattacharyya, jensen_shannon
from nla.losses.naw import NawParameters, naw_parameters

VARIANTS = ["released", "paper", "released-video"]
PROGRESS = 0.1  # eps = .78: the schedule is in mid-way


def batch(
    seed: int, n: int = 6, classes: int = 4, soft: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of two views, float64 [n, classes], and targets."""
    rng = np.random.default_rng(seed)
    views = torch.from_numpy(rng.normal(0, 2, (2, n, classes)))
    if soft:
        return views[0], views[1], torch.from_numpy(rng.dirichlet(np.ones(classes), n))
    return views[0], views[1], torch.from_numpy(rng.integers(0, classes, n))


def distributions(target: torch.Tensor, classes: int = 4) -> np.ndarray:
    return target.numpy() if target.ndim == 2 else np.eye(classes)[target.numpy()]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("n", [1, 7])
def test_value_against_the_formula(variant: str, soft: bool, n: int) -> None:
    z, flipped, target = batch(3, n, soft=soft)
    expected = reference.nla(z.numpy(), flipped.numpy(), distributions(target), PROGRESS, variant)
    loss = NLALoss(variant)(z, flipped, target, PROGRESS)
    assert (loss.dtype, loss.shape) == (torch.float32, ())
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_against_finite_differences(variant: str) -> None:
    """Of the formula in float64, through the weight in `released`, and with the weight held in `paper`."""
    z, flipped, target = batch(5)
    q_NC, step = distributions(target), 1e-5
    held_N = reference.weights(z.numpy(), target.numpy(), PROGRESS, variant) if variant == "paper" else None

    def slope(view: int, i: int, c: int) -> float:
        ends = []
        for sign in (+1, -1):
            views = np.stack([z.numpy(), flipped.numpy()])
            views[view, i, c] += sign * step
            ends.append(reference.nla(views[0], views[1], q_NC, PROGRESS, variant, held_N))
        return (ends[0] - ends[1]) / (2 * step)

    views = (z.clone().requires_grad_(), flipped.clone().requires_grad_())
    NLALoss(variant)(*views, target, PROGRESS).backward()
    for view, tensor in enumerate(views):
        expected = [[slope(view, i, c) for c in range(4)] for i in range(6)]
        np.testing.assert_allclose(tensor.grad, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4, 6e4])
@pytest.mark.parametrize("n", [1, 4])
def test_values_and_gradients_are_finite(variant: str, dtype: torch.dtype, size: float, n: int) -> None:
    """A batch of 1, equal probabilities, half precision, and logits at the edge of float16."""
    rows = torch.tensor([[-1.0, 1, 0], [1, -1, 0], [1, 1, 1], [0, 0, -1]])
    z, flipped = ((view[:n] * size).to(dtype).requires_grad_() for view in (rows, rows.flip(1)))
    loss = NLALoss(variant)(z, flipped, torch.tensor([0, 0, 0, 0])[:n], PROGRESS)
    loss.backward()
    assert loss.isfinite()
    assert z.grad is not None and flipped.grad is not None
    assert z.grad.isfinite().all() and flipped.grad.isfinite().all()


@given(st.integers(0, 2**32), st.sampled_from(VARIANTS), st.floats(0, 0.999), st.booleans())
def test_the_order_of_the_batch_does_not_matter(seed: int, variant: str, progress: float, soft: bool) -> None:
    z, flipped, target = batch(seed, 9, soft=soft)
    order = torch.randperm(9, generator=torch.manual_seed(seed % 1000))
    loss = NLALoss(variant)
    torch.testing.assert_close(
        loss(z[order], flipped[order], target[order], progress), loss(z, flipped, target, progress)
    )


@given(st.integers(0, 2**32), st.sampled_from(VARIANTS))
def test_a_hard_target_is_its_one_hot_distribution(seed: int, variant: str) -> None:
    z, flipped, target = batch(seed)
    soft = torch.from_numpy(distributions(target))
    loss = NLALoss(variant)
    torch.testing.assert_close(loss(z, flipped, soft, PROGRESS), loss(z, flipped, target, PROGRESS))


def test_duplicating_the_batch_changes_only_the_released_loss() -> None:
    z, flipped, target = batch(1)
    twice = [torch.cat([tensor, tensor]) for tensor in (z, flipped, target)]
    paper, released = NLALoss("paper"), NLALoss("released")
    torch.testing.assert_close(paper(*twice, PROGRESS), paper(z, flipped, target, PROGRESS))
    more = released(*twice, PROGRESS) - released(z, flipped, target, PROGRESS)
    torch.testing.assert_close(more, 0.5 * bhattacharyya(z, flipped).sum())


def test_summed_terms_are_scaled_by_the_replicas() -> None:
    """DDP averages gradients over workers: the mean over two halves is then the loss of the whole batch."""
    z, flipped, target = batch(2, 8)
    for variant in VARIANTS:
        loss = NLALoss(variant)
        halves = [loss(z[part], flipped[part], target[part], PROGRESS, 2) for part in (slice(0, 4), slice(4, 8))]
        torch.testing.assert_close(torch.stack(halves).mean(), loss(z, flipped, target, PROGRESS))


def test_every_argument_changes_its_term() -> None:
    z, flipped, target = batch(4)
    ce_N = torch.nn.functional.cross_entropy(z.float(), target, reduction="none")
    w_N = naw_weight(z, target, PROGRESS, "paper", true_deviation=0.5)
    loss = NLALoss("paper", lam=0.3, consistency="bhattacharyya", consistency_reduction="sum", true_deviation=0.5)
    expected = 0.3 * ((1 + w_N) * ce_N).mean() + 0.7 * bhattacharyya(z, flipped).sum()
    torch.testing.assert_close(loss(z, flipped, target, PROGRESS), expected)
    loss = NLALoss("released", consistency="jensen_shannon", consistency_reduction="mean", consistency_weight=2.0)
    w_N = naw_weight(z, target, PROGRESS, "released")
    expected = 0.5 * ((1 + w_N) * ce_N).mean() + 2 * jensen_shannon(z, flipped).mean()
    torch.testing.assert_close(loss(z, flipped, target, PROGRESS), expected)


def test_without_consistency_the_second_view_is_not_needed() -> None:
    z, flipped, target = batch(6)
    one, two = NLALoss("paper", consistency="none"), NLALoss("paper")
    assert (one.two_views, two.two_views) == (False, True)
    torch.testing.assert_close(one(z, None, target, PROGRESS), one(z, flipped, target, PROGRESS))
    with pytest.raises(ValueError, match="needs the logits of the mirrored images"):
        two(z, None, target, PROGRESS)


def test_cross_entropy_is_pytorchs() -> None:
    z, _, target = batch(7)
    torch.testing.assert_close(CrossEntropyLoss()(z, target), torch.nn.functional.cross_entropy(z.float(), target))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lam": 1.1}, r"lam must be in \[0, 1\] \(got 1\.1\)"),
        ({"lam": -0.1}, "lam must be in"),
        ({"consistency_weight": -1.0}, r"consistency_weight must be at least 0 \(got -1\.0\)"),
        ({"slope": -1.0}, r"slope must be at least 0 \(got -1\.0\)"),
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NLALoss(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"consistency": "js"}, {"consistency_reduction": "median"}, {"variant": "other"}])
def test_unknown_choices_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"unknown .*: valid are "):
        NLALoss(**wrong)  # type: ignore[arg-type]


CHANGES = {
    "true_mean": (0.6, 0.4),
    "true_deviation": 0.7,
    "true_ratio": 3.0,
    "true_sign": -1,
    "false_mean": (0.2, 0.1),
    "false_deviation": 0.5,
    "false_ratio": 4.0,
    "slope": 2.0,
    "normalized": False,
    "detach": False,
}


def test_each_parameter_of_the_weight_is_taken() -> None:
    assert {*CHANGES} == {field.name for field in fields(NawParameters)}
    for name, value in CHANGES.items():
        assert NLALoss("paper", **{name: value}).naw == naw_parameters("paper", **{name: value})
