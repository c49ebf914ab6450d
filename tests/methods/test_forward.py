"""Forward correction against its formulas, written out by loops, and on labels whose transition matrix is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from method_parts import context, minibatch, small_network
from method_reference import double, softmax

from nla.methods.forward import (
    ForwardCorrection,
    estimated_transition,
    expected_shares,
    forward_cross_entropy,
    transition_matrix,
    true_class,
    unmixed,
)

LABELS = [0, 1, 2, 0, 0, 1]


def counted(m_MC: np.ndarray, labels: list[int], rounds: int, strength: float) -> np.ndarray:
    """T of the module's docstring, row by row and number by number."""
    q = [m.copy() for m in m_MC]
    for _ in range(rounds):
        counts = strength * np.eye(3)
        for q_C, c in zip(q, labels, strict=True):
            counts[q_C.argmax(), c] += 1
        T = counts / counts.sum(1, keepdims=True)
        q = []
        for m in m_MC:
            share = np.full(3, 1 / 3)
            for _ in range(3):
                mixed = [sum(share[k] * T[k, c] for k in range(3)) for c in range(3)]
                share = np.array([share[k] * sum(m[c] * T[k, c] / mixed[c] for c in range(3)) for k in range(3)])
            q.append(share / share.sum())
    return T


def expected(m_MC: np.ndarray, labels: list[int], P: np.ndarray) -> np.ndarray:
    """P of the module's docstring after ten steps."""
    for _ in range(10):
        sums = np.ones((3, 3))
        for m, c in zip(m_MC, labels, strict=True):
            sums[:, c] += m * P[:, c] / (m * P[:, c]).sum()
        P = sums / sums.sum(1, keepdims=True)
    return P


def test_a_run_of_five_epochs_against_the_formulas() -> None:
    """T is that of the first three epochs; index 2 is never seen, and counts nowhere."""
    network = small_network()
    method = ForwardCorrection(context(labels=LABELS), start=0.5, rounds=2, beta=0.6, strength=0.5)
    memory, T, P = np.zeros((6, 3)), np.eye(3), np.full((3, 3), 1 / 13) + 10 / 13 * np.eye(3)
    seen, corrected = [0, 1, 3, 4, 5], False
    for progress in (0.0, 0.2, 0.4, 0.6, 0.8):
        for indices in ([3, 0], [1, 4, 5]):
            batch = minibatch(indices, progress)._replace(target=torch.tensor([LABELS[i] for i in indices]))
            outcome = method(network, batch)
            losses = []
            for i, s in zip(indices, softmax(double(outcome.logits_NC)), strict=True):
                if progress < 0.5:
                    memory[i] = 0.6 * memory[i] + 0.4 * s
                    r = memory[i] * P[:, LABELS[i]] / (memory[i] * P[:, LABELS[i]]).sum()
                    u = (progress - 0.2) / 0.4 if progress > 0.2 else 0.0
                    corrected |= u > 0 and abs(r[LABELS[i]] - 1) > 0.05
                    losses.append(-((1 - u) * np.eye(3)[LABELS[i]] + u * r) @ np.log(s))
                else:
                    losses.append(-np.log(sum(s[k] * T[k, LABELS[i]] for k in range(3))))
            np.testing.assert_allclose(outcome.loss.item(), np.mean(losses), rtol=1e-4)
        method.end_epoch(network, ())
        if progress < 0.5:
            m_MC, labels = memory[seen] / memory[seen].sum(1, keepdims=True), [LABELS[i] for i in seen]
            T, P = counted(m_MC, labels, 2, 0.5), expected(m_MC, labels, P)
        np.testing.assert_allclose(method.mean.rows_M, memory, atol=1e-5)
        np.testing.assert_allclose(method.transition_CC, T, rtol=1e-3)
        np.testing.assert_allclose(method.share_CC, P, rtol=1e-3)
    assert corrected and not memory[2].any() and not np.allclose(T, np.eye(3), atol=0.1)


def test_the_gradient_is_that_of_the_probability_that_the_label_is_right() -> None:
    """dL/dz_y = s_y - s_y T_yy / p_y, and the same for each other class: the posterior of the true class."""
    z_NC = torch.randn(5, 3, dtype=torch.float64, generator=torch.manual_seed(0)).requires_grad_()
    T = torch.tensor([[0.7, 0.2, 0.1], [0.05, 0.9, 0.05], [0.3, 0.0, 0.7]])
    y_N = torch.tensor([0, 1, 2, 0, 2])
    forward_cross_entropy(z_NC, y_N, T).sum().backward()
    assert z_NC.grad is not None
    for z_C, y, gradient_C in zip(double(z_NC), y_N.tolist(), z_NC.grad.numpy(), strict=True):
        s_C = softmax(z_C[None])[0]
        joint_C = s_C * T[:, y].double().numpy()
        np.testing.assert_allclose(gradient_C, s_C - joint_C / joint_C.sum(), atol=1e-5)


def test_with_labels_that_are_never_wrong_it_is_cross_entropy() -> None:
    z_NC, y_N = torch.randn(6, 3, generator=torch.manual_seed(1)), torch.tensor(LABELS)
    expected_N = torch.nn.functional.cross_entropy(z_NC, y_N, reduction="none")
    torch.testing.assert_close(forward_cross_entropy(z_NC, y_N, torch.eye(3)), expected_N)
    one_hot_NC = torch.eye(3)[y_N]
    torch.testing.assert_close(forward_cross_entropy(z_NC, one_hot_NC, torch.eye(3)), expected_N)


def test_it_is_computed_in_float32_under_autocast() -> None:
    z_NC, T = torch.randn(6, 3, generator=torch.manual_seed(2)), torch.full((3, 3), 1 / 3) + 0.01 * torch.eye(3)
    expected_N = forward_cross_entropy(z_NC, torch.tensor(LABELS), T)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(forward_cross_entropy(z_NC, torch.tensor(LABELS), T), expected_N)


def test_matrices_are_computed_in_float32_under_autocast() -> None:
    """bfloat16 has no 4,097: sums over that many samples would lose the last ones."""
    found = []
    for enabled in (False, True):
        method = ForwardCorrection(context(samples=9000))
        generator = torch.Generator().manual_seed(0)
        method.mean.rows_M.copy_(torch.rand(9000, 3, generator=generator).softmax(dim=1))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            method.end_epoch(small_network(), ())
        found.append((method.share_CC, method.transition_CC))
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=0)


def test_an_impossible_label_has_a_finite_loss_and_gradient() -> None:
    z_NC = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    loss_N = forward_cross_entropy(z_NC, torch.tensor([2]), torch.eye(3))
    loss_N.sum().backward()
    assert loss_N.isfinite().all() and z_NC.grad is not None and z_NC.grad.isfinite().all()


def test_rows_of_a_class_that_nothing_is_predicted_to_be_are_those_of_the_identity() -> None:
    T = transition_matrix(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 2, 2, 1]), 3, 2.0)
    torch.testing.assert_close(T, torch.tensor([[3 / 5, 0, 2 / 5], [0, 1, 0], [0, 0, 1]]))


@given(st.integers(0, 2**31), st.integers(2, 6))
def test_what_was_mixed_is_sorted_again(seed: int, classes: int) -> None:
    """Distributions T_k of pure classes: the most probable true class is k, whatever other label is more frequent."""
    T = torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(classes), classes)).float() * 0.5
    T += 0.5 * torch.eye(classes)
    q_CC = unmixed(T, T)
    torch.testing.assert_close(q_CC.sum(1), torch.ones(classes))
    assert q_CC.argmax(1).tolist() == list(range(classes))


def test_em_finds_the_shares_that_the_predictions_imply() -> None:
    """Means that are the true class, with one label in three of class 0 wrong: P is their joint distribution."""
    class_M, label_M = torch.tensor([0] * 600 + [1] * 300), torch.tensor([0] * 400 + [1] * 500)
    mean_MC = torch.eye(2)[class_M] * 0.998 + 0.001
    P = expected_shares(mean_MC, label_M, torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    torch.testing.assert_close(P, torch.tensor([[2 / 3, 1 / 3], [0.0, 1.0]]), atol=0.01, rtol=0)
    r_NC = true_class(torch.tensor([[0.5, 0.5]]), torch.tensor([1]), P)
    torch.testing.assert_close(r_NC, torch.tensor([[0.25, 0.75]]), atol=0.01, rtol=0)


@pytest.mark.parametrize("rounds", [1, 5])
def test_the_matrix_of_labels_that_people_mistake_for_each_other(rounds: int) -> None:
    """Rows that are of one class each, and a mean that is the share of labels in their neighbourhood."""
    T = np.array([[0.55, 0.3, 0.15], [0.05, 0.9, 0.05], [0.1, 0.2, 0.7]])
    rng = np.random.default_rng(0)
    class_M = rng.choice(3, 20_000, p=[0.6, 0.25, 0.15])
    label_M = np.array([rng.choice(3, p=T[k]) for k in class_M])
    mean_MC = torch.from_numpy(T[class_M] * 0.8 + 0.2 * rng.dirichlet(np.ones(3), len(class_M))).float()
    found = estimated_transition(mean_MC, torch.from_numpy(label_M), rounds, 20.0)
    np.testing.assert_allclose(found, T, atol=0.02)


def test_one_round_leaves_what_is_mixed_mixed() -> None:
    """Class 1 is mostly labelled 0, so that its rows count as 0 at first; once that is known, they are told apart."""
    T = np.array([[0.9, 0.1], [0.52, 0.48]])
    rng = np.random.default_rng(0)
    class_M = rng.choice(2, 20_000)
    label_M = torch.from_numpy((rng.random(20_000) < T[class_M, 1]).astype(np.int64))
    noise_M = rng.normal(0, 0.06, 20_000)[:, None] * np.array([1, -1])
    mean_MC = torch.from_numpy(np.clip(T[class_M] + noise_M, 0.01, 0.99)).float()
    errors = [np.abs(estimated_transition(mean_MC, label_M, rounds, 20.0).numpy() - T).max() for rounds in (1, 5)]
    assert errors[1] < 0.5 * errors[0]
