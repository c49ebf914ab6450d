"""Targets and positions (p_GT, p_NN) against an independent derivation, sample by sample."""

from __future__ import annotations

import loss_reference as reference
import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nla.losses.functional import cross_entropy, given_label, p_gt_and_p_nn

logits_arrays = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(2, 8)), elements=st.floats(-20, 20, width=32)
)


def one_hot(labels_N: torch.Tensor, classes: int) -> torch.Tensor:
    return torch.eye(classes)[labels_N]


@given(logits_arrays, st.randoms(use_true_random=False))
def test_positions_and_cross_entropy_sample_by_sample(logits_NC: np.ndarray, random) -> None:
    n, classes = logits_NC.shape
    given_N = [random.randrange(classes) for _ in range(n)]
    logits, target = torch.from_numpy(logits_NC), torch.tensor(given_N)
    p_GT, p_NN = p_gt_and_p_nn(logits, target)
    ce_N = cross_entropy(logits, target)
    for i, (z_C, label) in enumerate(zip(logits_NC.astype(np.float64), given_N, strict=True)):
        np.testing.assert_allclose((p_GT[i], p_NN[i]), reference.position(z_C, label), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(ce_N[i], reference.cross_entropy(z_C, np.eye(classes)[label]), rtol=1e-5, atol=1e-6)


@given(logits_arrays, st.randoms(use_true_random=False))
def test_a_hard_target_is_its_one_hot_distribution(logits_NC: np.ndarray, random) -> None:
    n, classes = logits_NC.shape
    logits, labels = torch.from_numpy(logits_NC), torch.tensor([random.randrange(classes) for _ in range(n)])
    soft = one_hot(labels, classes)
    torch.testing.assert_close(cross_entropy(logits, soft), cross_entropy(logits, labels))
    torch.testing.assert_close(p_gt_and_p_nn(logits, soft), p_gt_and_p_nn(logits, labels))


def test_cross_entropy_against_a_distribution() -> None:
    z_C, q_C = np.array([0.3, -1.2, 2.0]), np.array([0.5, 0.2, 0.3])
    result = cross_entropy(torch.tensor([z_C.tolist()]), torch.tensor([q_C.tolist()]))
    np.testing.assert_allclose(result, [reference.cross_entropy(z_C, q_C)], rtol=1e-6)


def test_the_first_of_equal_shares_is_the_given_label() -> None:
    assert given_label(torch.tensor([[0.2, 0.4, 0.4], [0.5, 0.5, 0.0]])).tolist() == [1, 0]


def test_half_precision_is_computed_in_float32() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float16)
    exact = p_gt_and_p_nn(logits.double(), torch.tensor([2]))
    for got, wanted in zip(p_gt_and_p_nn(logits, torch.tensor([2])), exact, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, wanted.float(), rtol=1e-6, atol=0)
