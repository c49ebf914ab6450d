"""Distances between two predictions against their definitions in NumPy."""

from __future__ import annotations

import math

import loss_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nla.losses.functional import bhattacharyya, jensen_shannon

pairs = hnp.arrays(
    np.float32, st.tuples(st.just(2), st.integers(1, 4), st.integers(2, 8)), elements=st.floats(-12, 12, width=32)
)


@given(pairs)
def test_jensen_shannon_against_sums(pair_2NC: np.ndarray) -> None:
    expected = [reference.jensen_shannon(z, other) for z, other in zip(*pair_2NC.astype(np.float64), strict=True)]
    result = jensen_shannon(*torch.from_numpy(pair_2NC))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)
    assert (result >= -1e-7).all() and (result <= math.log(2) + 1e-6).all()


@given(pairs)
def test_the_released_term_is_the_bhattacharyya_distance(pair_2NC: np.ndarray) -> None:
    """Both the authors' arithmetic, KL by KL, and the distance's definition."""
    z_NC, other_NC = pair_2NC.astype(np.float64)
    result = bhattacharyya(*torch.from_numpy(pair_2NC))
    as_released = [reference.released_consistency(z, other) for z, other in zip(z_NC, other_NC, strict=True)]
    by_definition = [
        -np.log(np.sqrt(reference.softmax(z) * reference.softmax(other)).sum())
        for z, other in zip(z_NC, other_NC, strict=True)
    ]
    np.testing.assert_allclose(result, as_released, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(result, by_definition, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("distance", [jensen_shannon, bhattacharyya])
@given(pair_2NC=pairs)
def test_symmetric_and_zero_between_equals(distance, pair_2NC: np.ndarray) -> None:
    z, other = torch.from_numpy(pair_2NC)
    torch.testing.assert_close(distance(z, other), distance(other, z))
    torch.testing.assert_close(distance(z, z + 3), torch.zeros(len(z)), atol=2e-6, rtol=0)  # a shift changes nothing


@pytest.mark.parametrize("distance", [jensen_shannon, bhattacharyya])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [1e4, 6e4])
def test_opposite_certainties_give_finite_values_and_gradients(distance, dtype: torch.dtype, size: float) -> None:
    z = (torch.tensor([[1.0, -1, 0], [0, 0, 0]]) * size).to(dtype).requires_grad_()
    other = (torch.tensor([[-1.0, 1, 0], [1, -1, -1]]) * size).to(dtype).requires_grad_()
    result = distance(z, other)
    result.sum().backward()
    assert result.dtype == torch.float32 and result.isfinite().all()
    assert z.grad is not None and other.grad is not None
    assert z.grad.isfinite().all() and other.grad.isfinite().all()
