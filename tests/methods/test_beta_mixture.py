"""The Beta mixture against scipy's densities and EM by loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from method_reference import double
from scipy.stats import beta as beta_distribution

from nla.methods import beta_mixture
from nla.methods.beta_mixture import BetaMixture, fit_beta_mixture, look_up


def values(low: int = 60, high: int = 140) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.beta(2, 6, low), rng.beta(9, 1.5, high), [0.0, 1.0]])


def by_loops(x: np.ndarray, steps: int) -> list[list[float]]:
    """alpha, beta and weight of both components."""
    x = np.clip(x, 1e-4, 1 - 1e-4)
    parts = [[1.0, 2.0, 0.5], [2.0, 1.0, 0.5]]
    for _ in range(steps):
        density = [[max(w * beta_distribution.pdf(value, a, b), 1e-12) for value in x] for a, b, w in parts]
        share = np.array(density) / np.sum(density, axis=0)
        parts = []
        for r in share:
            m = np.average(x, weights=r)
            v = np.average((x - m) ** 2, weights=r)
            a = m * (m * (1 - m) / v - 1)
            parts.append([a, a * (1 - m) / m, float(r.mean())])
    return parts


def parameters(mixture: BetaMixture) -> np.ndarray:
    return double(torch.stack([mixture.alpha, mixture.beta, mixture.weight], dim=1))


def test_ten_steps_against_loops() -> None:
    found = parameters(fit_beta_mixture(torch.from_numpy(values()).float()))
    np.testing.assert_allclose(found, by_loops(values(), 10), rtol=1e-4)
    assert np.abs(found - by_loops(values(), 9)).max() > 1e-3


def test_it_starts_in_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beta_mixture, "STEPS", 0)
    mixture = fit_beta_mixture(torch.from_numpy(values()).float())
    assert {mixture.alpha.dtype, mixture.beta.dtype, mixture.weight.dtype} == {torch.float64}
    assert parameters(mixture).tolist() == [[1, 2, 0.5], [2, 1, 0.5]]


def test_the_table_is_the_posterior_up_to_its_maximum() -> None:
    mixture = fit_beta_mixture(torch.from_numpy(values()))
    (a0, b0, w0), (a1, b1, w1) = by_loops(values(), 10)
    expected = []
    for x in np.linspace(1e-12, 1 - 1e-12, 100):
        low, high = w0 * beta_distribution.pdf(x, a0, b0), w1 * beta_distribution.pdf(x, a1, b1)
        expected.append(high / (low + high + 1e-12))
    top = int(np.argmax(expected))
    expected[top:] = [expected[top]] * (100 - top)
    np.testing.assert_allclose(double(mixture.table()), expected, rtol=1e-5, atol=1e-9)


def test_it_separates_two_groups() -> None:
    mixture = fit_beta_mixture(torch.from_numpy(values()))
    assert mixture.weight.tolist() == pytest.approx([0.3, 0.7], abs=0.1)
    low, high = look_up(mixture.table(), torch.tensor([0.2, 0.9]))
    assert low < 0.02 and high > 0.98


def test_a_broad_low_component_does_not_win_again_near_one() -> None:
    two = [torch.tensor(pair, dtype=torch.float64) for pair in ((1.0, 20.0), (1.0, 6.0), (0.5, 0.5))]
    table_B = BetaMixture(*two).table()
    assert table_B.argmax() < 95 and (table_B[int(table_B.argmax()) :] == table_B.max()).all()


@pytest.mark.parametrize("x", [[0.5] * 20, [0.0] * 20, [1.0] * 20, [0.0] * 10 + [1.0] * 10, [0.3]])
def test_degenerate_values_are_finite(x: list[float]) -> None:
    table_B = fit_beta_mixture(torch.tensor(x)).table()
    assert table_B.isfinite().all() and (table_B >= 0).all() and (table_B <= 1).all()


def test_places_of_the_table() -> None:
    table_B = torch.linspace(0, 1, 100)
    x_N = torch.tensor([0.0, 0.0099, 0.01, 0.5, 0.999, 1.0])
    expected = torch.tensor([1e-4, 1e-4, table_B[1], table_B[50], 1 - 1e-4, 1 - 1e-4])
    torch.testing.assert_close(look_up(table_B, x_N), expected)


def test_beyond_the_table_its_ends_count() -> None:
    table_B = torch.linspace(0.2, 0.8, 100)
    torch.testing.assert_close(look_up(table_B, torch.tensor([-0.5, 1.5])), torch.tensor([0.2, 0.8]))


def test_densities_as_in_scipy() -> None:
    mixture = BetaMixture(*torch.tensor([[2.5, 7.0], [4.0, 1.5], [0.3, 0.7]], dtype=torch.float64))
    x = np.linspace(0.05, 0.95, 7)
    expected = [w * beta_distribution.pdf(x, a, b) for a, b, w in parameters(mixture)]
    np.testing.assert_allclose(double(mixture.densities(torch.from_numpy(x))), expected, rtol=1e-9)
