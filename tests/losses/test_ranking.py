"""Ranks of a worker's samples in the global batch."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from nla.losses.functional import rank_in_batch


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(1, 4), st.randoms())
def test_ranks_are_those_of_a_sort_however_the_batch_is_split(values: list[int], size: int, random) -> None:  # type: ignore[no-untyped-def]
    """Few values, so that many are equal: then the sample's index decides."""
    indices = random.sample(range(100), len(values))
    order = sorted(zip(values, indices, strict=True))
    value_G, index_G = torch.tensor(values).float(), torch.tensor(indices)
    for part in torch.arange(len(values)).chunk(size):
        found = rank_in_batch(value_G[part], index_G[part], value_G, index_G)
        assert found.tolist() == [order.index((values[i], indices[i])) for i in part]
