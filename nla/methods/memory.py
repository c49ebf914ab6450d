"""What a method remembers of each training sample, from epoch to epoch."""

from __future__ import annotations

from torch import Tensor, nn

from nla.methods.base import Group


class SampleMemory(nn.Module):
    """A row for each of the M training samples, the same on every worker, and part of every checkpoint.

    Each worker writes the rows of its samples into the memories of all: the next epoch deals samples out anew.

    Args:
        first_M: the rows at the start, [M, ...].
        group: the workers.
    """

    rows_M: Tensor

    def __init__(self, first_M: Tensor, group: Group) -> None:
        super().__init__()
        self.group = group
        self.register_buffer("rows_M", first_M)

    def read(self, index_N: Tensor) -> Tensor:
        """The rows of the samples `index_N`, [N, ...]."""
        return self.rows_M[index_N]

    def write(self, index_N: Tensor, rows_N: Tensor) -> None:
        """Replaces the rows of this worker's samples; every worker has to call it with as many."""
        index_G, rows_G = self.group.gather(index_N), self.group.gather(rows_N)
        self.rows_M[index_G] = rows_G
