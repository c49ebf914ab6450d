"""The NAW weight: published values, an independent derivation, and properties for any input."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import loss_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nla.losses import NLALoss
from nla.losses.naw import PUBLISHED, NawParameters, naw_parameters, naw_weight, weight_at

END, START = 0.99999, 0.0  # eps = 1 - exp(-15) = 1 - 3e-7, and eps = 0
CLASSES = 8


def logits_at(p_GT: float, p_NN: float) -> torch.Tensor:
    """[1, 8] logits with the given label 0 at p_GT and the nearest negative 1 at p_NN; the others share the rest."""
    rest = max(1 - p_GT - p_NN, 0) / (CLASSES - 2)
    return torch.tensor([[p_GT, p_NN, *[rest] * (CLASSES - 2)]]).clamp(min=1e-30).log()


@pytest.mark.parametrize(
    ("p_GT", "p_NN", "progress", "expected"),
    [
        (1.0, 0.0, END, 0.205),
        (0.6, 0.3, END, 0.242),
        (0.5, 0.5, END, 0.249),
        (0.45, 0.50, END, 0.447),
        (0.3, 0.5, END, 0.291),
        (0.2, 0.6, END, 0.109),
        (0.1, 0.8, END, 0.011),
        (0.02, 0.95, END, 0.001),
        (1.0, 0.0, START, 0.146),
        (0.5, 0.5, START, 0.199),
    ],
)
def test_values_of_the_released_code(p_GT: float, p_NN: float, progress: float, expected: float) -> None:
    w = naw_weight(logits_at(p_GT, p_NN), torch.tensor([0]), progress, "released")
    assert w.item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("p_GT", "p_NN", "expected"),
    [(1.0, 0.0, 0.458), (0.6, 0.3, 0.930), (0.5, 0.5, 1.0), (0.45, 0.50, 0.775), (0.1, 0.8, 0.019)],
)
def test_values_of_the_papers_text(p_GT: float, p_NN: float, expected: float) -> None:
    w = naw_weight(logits_at(p_GT, p_NN), torch.tensor([0]), END, "paper")
    assert w.item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("p_GT", "p_NN", "progress", "expected"),
    [
        (1.0, 0.0, START, 0.717),
        (1.0, 0.0, END, 0.819),
        (0.6, 0.3, START, 0.967),
        (0.6, 0.3, END, 0.972),
        (0.5, 0.5, START, 1.0),
        (0.5, 0.5, END, 1.0),
        (1 / 8, 1 / 8, START, 0.829),
        (1 / 8, 1 / 8, END, 0.570),
        (0.45, 0.50, END, 0.788),
        (0.3, 0.5, END, 0.532),
        (0.2, 0.6, END, 0.216),
        (0.1, 0.8, END, 0.026),
        (0.02, 0.95, END, 0.003),
    ],
)
def test_values_of_the_released_code_for_video(p_GT: float, p_NN: float, progress: float, expected: float) -> None:
    w = naw_weight(logits_at(p_GT, p_NN), torch.tensor([0]), progress, "released-video")
    assert w.item() == pytest.approx(expected, abs=1e-3)


def test_the_released_weight_jumps_where_false_begins() -> None:
    at = torch.tensor([0.5, 0.499999]), torch.tensor([0.5, 0.500001])
    assert weight_at(*at, END, PUBLISHED["released"]).tolist() == pytest.approx([0.249, 0.487], abs=1e-3)


def test_clean_samples_get_heavier_as_released_and_lighter_as_written() -> None:
    def clean_to_ambiguous(progress: float, variant: str) -> float:
        clean, ambiguous = (
            naw_weight(logits_at(*at), torch.tensor([0]), progress, variant) for at in [(1, 0), (0.5, 0.5)]
        )
        return float(clean / ambiguous)

    assert clean_to_ambiguous(START, "released") == pytest.approx(0.73, abs=5e-3)
    assert clean_to_ambiguous(END, "released") == pytest.approx(0.82, abs=5e-3)
    assert clean_to_ambiguous(END, "paper") == pytest.approx(0.46, abs=5e-3)


def random_batch(seed: int, n: int = 64, scale: float = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, scale, (n, CLASSES)), rng.integers(0, CLASSES, n)


@pytest.mark.parametrize("variant", list(PUBLISHED))
@pytest.mark.parametrize("progress", [0.0, 0.03, 0.5, 0.98])
def test_against_matrices_written_out(variant: str, progress: float) -> None:
    logits_NC, given_N = random_batch(1, 256)
    expected = reference.weights(logits_NC, given_N, progress, variant)
    w_N = naw_weight(torch.from_numpy(logits_NC), torch.from_numpy(given_N), progress, variant)
    assert len({*np.array([reference.position(z, g) for z, g in zip(logits_NC, given_N, strict=True)]).argmax(1)}) == 2
    np.testing.assert_allclose(w_N, expected, rtol=1e-5, atol=1e-7)


def test_every_parameter_reaches_the_weight() -> None:
    true, false = reference.Gaussian.of((0.6, 0.2), 0.7, 3, +1), reference.Gaussian.of((0.1, 0.25), 0.5, 4, +1)
    changes = {"true_mean": (0.6, 0.2), "true_deviation": 0.7, "true_ratio": 3, "true_sign": 1, "normalized": True}
    changes |= {"false_mean": (0.1, 0.25), "false_deviation": 0.5, "false_ratio": 4, "slope": 2}
    for p_GT, p_NN in [(0.7, 0.2), (0.2, 0.7)]:
        expected = reference.weight(p_GT, p_NN, 1 - np.exp(-2 * 0.3), true, false, normalized=True)
        w = naw_weight(logits_at(p_GT, p_NN), torch.tensor([0]), 0.3, **changes)
        assert w.item() == pytest.approx(expected, rel=1e-5)


def test_a_density_integrates_to_one_and_a_normalised_weight_peaks_at_one() -> None:
    axis = torch.linspace(-6, 6, 1201)
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    alike = {"true_sign": 1, "slope": 1e9, "false_mean": (0.5, 0.5), "false_deviation": 0.8, "false_ratio": 2.0}
    density = weight_at(x, y, 0.5, naw_parameters("released", **alike))  # one Gaussian over the whole plane
    assert density.double().sum().item() * 0.01**2 == pytest.approx(1, abs=1e-3)
    peaked = weight_at(x, y, 0.5, naw_parameters("released", normalized=True, **alike))
    assert peaked.max().item() == pytest.approx(1)


@given(st.integers(0, 2**32), st.sampled_from(list(PUBLISHED)), st.floats(0, 0.999))
def test_a_weight_does_not_depend_on_the_rest_of_the_batch(seed: int, variant: str, progress: float) -> None:
    logits_NC, given_N = random_batch(seed, 9)
    logits, target = torch.from_numpy(logits_NC).float(), torch.from_numpy(given_N)
    together = naw_weight(logits, target, progress, variant)
    alone = torch.cat([naw_weight(logits[i : i + 1], target[i : i + 1], progress, variant) for i in range(9)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("variant", list(PUBLISHED))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e4, 6e4])
def test_extreme_and_equal_logits_give_finite_weights(variant: str, dtype: torch.dtype, size: float) -> None:
    logits = (torch.tensor([[1, -1, 0], [-1, 1, 0], [1, 1, 1], [0, 0, -1]]) * size).to(dtype)
    w_N = naw_weight(logits, torch.tensor([0, 0, 0, 0]), 0.5, variant)
    assert w_N.dtype == torch.float32
    assert w_N.isfinite().all() and (w_N >= 0).all()


def test_only_released_weights_carry_a_gradient() -> None:
    logits, target = torch.randn(4, 3, generator=torch.manual_seed(0)).requires_grad_(), torch.tensor([0, 1, 2, 0])
    assert naw_weight(logits, target, 0.5, "released").requires_grad
    assert naw_weight(logits, target, 0.5, "released-video").requires_grad
    assert not naw_weight(logits, target, 0.5, "paper").requires_grad
    assert naw_weight(logits, target, 0.5, "paper", detach=False).requires_grad


@pytest.mark.parametrize("takes", [naw_weight, NLALoss])
def test_help_shows_every_argument_of_the_weight(takes: Callable[..., Any]) -> None:
    shown = inspect.signature(takes).parameters
    for field in fields(NawParameters):
        assert (shown[field.name].kind, shown[field.name].default) == (inspect.Parameter.KEYWORD_ONLY, None)
        assert field.name in str(takes.__doc__)
    assert inspect.Parameter.VAR_KEYWORD not in {parameter.kind for parameter in shown.values()}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *((name, value) for name in ("true_deviation", "false_ratio") for value in (0.0, -1.0, float("nan"))),
        ("true_ratio", 0),
        ("false_deviation", -0.1),
        ("slope", -0.1),
        ("slope", float("nan")),
        *(("true_sign", value) for value in (0, 2, -2)),
    ],
)
def test_values_out_of_range_are_refused(name: str, wrong: float) -> None:
    for takes in (lambda **given: naw_weight(torch.zeros(1, 3), torch.tensor([0]), 0, **given), NLALoss):
        with pytest.raises(ValueError, match=rf"{name} must be .* \(got {wrong}\)"):
            takes(**{name: wrong})


def test_without_a_slope_noisy_samples_are_never_weighted_down() -> None:
    logits_NC, label_N = torch.tensor([[0.0, 3.0, 1.0]]), torch.tensor([0])
    late, early = (naw_weight(logits_NC, label_N, progress, slope=0.0) for progress in (1.0, 0.0))
    torch.testing.assert_close(late, early)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown variant 'papre': valid are released, paper"):
        naw_weight(torch.zeros(1, 3), torch.tensor([0]), 0, "papre")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="true_maen"):
        naw_weight(torch.zeros(1, 3), torch.tensor([0]), 0, true_maen=(0, 0))
