"""The order of the samples of a batch that is split among workers, by a value of each.

Legend: N samples of one worker, G of the whole batch.
"""

from __future__ import annotations

from torch import Tensor


def places(value_N: Tensor, index_N: Tensor, value_G: Tensor, index_G: Tensor) -> Tensor:
    """Place of each of the N among the G, int64, 0 for the smallest; of equal values the lower index comes first."""
    smaller_NG = value_G < value_N[:, None]
    equal_NG = (value_G == value_N[:, None]) & (index_G < index_N[:, None])
    return (smaller_NG | equal_NG).sum(dim=1)
