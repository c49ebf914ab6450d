"""State that a method keeps for each training sample, from epoch to epoch."""

from __future__ import annotations

from torch import Tensor, nn

from nla.methods.base import Group


class SampleMemory(nn.Module):
    """A row for each of the M training samples, identical on all workers, and part of every checkpoint.

    The rows that a worker writes are written on all workers, because each epoch distributes the samples anew.

    Args:
        first_M: initial rows, [M, ...].
        group: the workers.
    """

    rows_M: Tensor

    def __init__(self, first_M: Tensor, group: Group) -> None:
        super().__init__()
        self.group = group
        self.register_buffer("rows_M", first_M)

    def read(self, index_N: Tensor) -> Tensor:
        """Returns the rows of the samples `index_N`, [N, ...]."""
        return self.rows_M[index_N]

    def write(self, index_N: Tensor, rows_N: Tensor) -> None:
        """Replaces the rows of this worker's samples; all workers must call it, with the same number of rows."""
        index_G, rows_G = self.group.gather(index_N), self.group.gather(rows_N)
        self.rows_M[index_G] = rows_G
