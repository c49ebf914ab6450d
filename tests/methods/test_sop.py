"""SOP against its formulas in NumPy: the loss by loops, and all gradients by finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from method_parts import context, minibatch, small_network
from method_reference import double, softmax
from torch import Tensor, nn

from nla.methods.sop import SparseOverParameterisation, imbalance

SAMPLES, INDICES = 7, [5, 0, 3, 1]
RATES = {"lr_u": 0.2, "lr_v": 0.3, "consistency": 0.7, "balance": 0.4}


class Given(nn.Module):
    """A network whose logits of both views are its parameters."""

    def __init__(self, z_2NC: np.ndarray) -> None:
        super().__init__()
        self.z = nn.Parameter(torch.from_numpy(z_2NC).float())

    def forward(self, images_NHWC: Tensor, mirrored: bool = False) -> Tensor:
        assert mirrored and len(self.z) == 2 * len(images_NHWC)
        return self.z


def reference(z: np.ndarray, u: np.ndarray, v: np.ndarray, y: np.ndarray, frozen: tuple[np.ndarray, ...]) -> float:
    """The loss of N samples; what has no gradient comes from `frozen`: v, and the probabilities of the first view."""
    v_frozen, p_frozen = frozen
    size, classes = y.shape
    total, mean = 0.0, np.zeros(classes)
    for i in range(size):
        p, mirrored = softmax(z[[i]])[0], softmax(z[[size + i]])[0]
        best = int(np.argmax(z[i]))
        hat = np.zeros(classes)
        for c in range(classes):
            up = min(u[i, 0] ** 2 * y[i, c], 1)
            hat[c] = max(p[c] + up - min(v_frozen[i, c] ** 2 * (1 - y[i, c]), 1), 1e-4)
            down = min(v[i, c] ** 2 * (1 - y[i, c]), 1)
            total += ((best == c) + up - down - y[i, c]) ** 2
            total += RATES["consistency"] * p_frozen[i, c] * np.log(p_frozen[i, c] / mirrored[c])
        hat = np.clip(hat / hat.sum(), 1e-4, 1)
        total -= (y[i] * np.log(hat)).sum()
        mean += hat / size
    return total / size - RATES["balance"] * np.log(mean).mean()


def slopes(change: np.ndarray, loss: object, step: float = 1e-5) -> np.ndarray:
    """Central differences of `loss()`, a function of the array `change`."""
    found = np.zeros_like(change)
    for at in np.ndindex(change.shape):
        ends = []
        for sign in (1, -1):
            change[at] += sign * step
            ends.append(loss())  # type: ignore[operator]
            change[at] -= sign * step
        found[at] = (ends[0] - ends[1]) / (2 * step)
    return found


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("scale", [0.5, 1.3], ids=["within", "at the limits of the clamps"])
def test_loss_and_all_gradients_against_the_formulas(soft: bool, scale: float) -> None:
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(8, 3)), rng.dirichlet(np.ones(3), 4) if soft else np.eye(3)[[2, 0, 0, 1]]
    method, network = SparseOverParameterisation(context(SAMPLES), **RATES), Given(z)
    with torch.no_grad():
        method.u.rows_M.copy_(torch.from_numpy(scale * rng.normal(size=(SAMPLES, 1))))
        method.v.rows_M.copy_(torch.from_numpy(scale * rng.normal(size=(SAMPLES, 3))))
    u_M, v_M = double(method.u.rows_M).copy(), double(method.v.rows_M).copy()
    u, v, frozen = u_M[INDICES], v_M[INDICES], (v_M[INDICES], softmax(z[:4]))
    target = torch.from_numpy(y).float() if soft else torch.from_numpy(y.argmax(1))
    outcome = method(network, minibatch(INDICES)._replace(target=target))  # type: ignore[arg-type]
    outcome.loss.backward()
    loss = lambda: reference(z, u, v, y, frozen)  # noqa: E731
    assert outcome.loss.item() == pytest.approx(loss(), rel=1e-5)
    np.testing.assert_allclose(double(outcome.logits_NC), z[:4], rtol=1e-6)
    np.testing.assert_allclose(double(network.z.grad), slopes(z, loss), rtol=1e-3, atol=1e-5)
    u_M[INDICES] -= RATES["lr_u"] * slopes(u, loss)
    v_M[INDICES] -= RATES["lr_v"] * slopes(v, loss)
    np.testing.assert_allclose(double(method.u.rows_M), u_M, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(double(method.v.rows_M), v_M, rtol=1e-4, atol=1e-5)


def test_it_starts_as_cross_entropy() -> None:
    """But for the squared distance, which has no gradient for the network."""
    network, method = small_network(), SparseOverParameterisation(context(), consistency=0.0, balance=0.0)
    batch = minibatch(range(6))
    logits_NC = network(batch.images_NHWC, mirrored=True)[:6]
    wrong = 2 * (logits_NC.argmax(1) != batch.target).float().mean()
    cross_entropy = torch.nn.functional.cross_entropy(logits_NC, batch.target)
    torch.testing.assert_close(method(network, batch).loss, cross_entropy + wrong, rtol=1e-4, atol=1e-5)
    assert 0 < method.u.rows_M.abs().max() < 1e-6


def test_a_label_that_the_network_contradicts_is_absorbed_and_another_is_not() -> None:
    """Of two samples with the same confident prediction, only the one labelled otherwise gets a correction."""
    z_NC = np.tile([[4.0, 0.0, 0.0]], (4, 1))
    method = SparseOverParameterisation(context(2))
    batch = minibatch([0, 1])._replace(target=torch.tensor([0, 1]))
    for _ in range(40):
        method(Given(z_NC), batch)  # type: ignore[arg-type]
    u_M, v_M = method.u.rows_M**2, method.v.rows_M**2
    assert u_M[1] > 0.5 and v_M[1, 0] > 0.5 and u_M[0] < 1e-6 and v_M[0].max() < 1e-6


def test_the_balance_is_that_of_the_global_batch() -> None:
    """The value is that of all rows; the mean of the workers' gradients is its gradient."""
    p_GC = torch.rand(6, 3, generator=torch.manual_seed(0)).softmax(1)
    whole = p_GC.clone().requires_grad_()
    imbalance(whole).backward()
    parts = [p_GC[:3].clone().requires_grad_(), p_GC[3:].clone().requires_grad_()]
    for part in parts:
        value = imbalance(part, lambda _: p_GC)
        torch.testing.assert_close(value, -p_GC.mean(0).log().mean())
        (value / 2).backward()
    torch.testing.assert_close(torch.cat([part.grad for part in parts]), whole.grad)


def test_it_is_finite_for_extreme_logits() -> None:
    network = Given(np.array([[1e4, 0.0, 0.0], [0.0, 0.0, -1e4]] * 2))
    method = SparseOverParameterisation(context(), lr_u=1e3, lr_v=1e3)
    for _ in range(5):
        loss = method(network, minibatch([1, 2])).loss  # type: ignore[arg-type]
        loss.backward()
    assert loss.isfinite() and network.z.grad.isfinite().all()
    assert method.u.rows_M.isfinite().all() and method.v.rows_M.isfinite().all()


@pytest.mark.parametrize("option", ["lr_u", "lr_v", "consistency", "balance"])
def test_values_out_of_range_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=rf"{option} must be at least 0 \(got -1\.0\)"):
        SparseOverParameterisation(context(), **{option: -1.0})
