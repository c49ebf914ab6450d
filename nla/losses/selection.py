"""Ranks of samples by value in a batch that is split among workers.

Legend: N samples of one worker, G of the global batch.
"""

from __future__ import annotations

from torch import Tensor


def places(value_N: Tensor, index_N: Tensor, value_G: Tensor, index_G: Tensor) -> Tensor:
    """Rank of each of the N samples among the G, int64, 0 for the smallest; ties are broken by the lower index."""
    smaller_NG = value_G < value_N[:, None]
    equal_NG = (value_G == value_N[:, None]) & (index_G < index_N[:, None])
    return (smaller_NG | equal_NG).sum(dim=1)
