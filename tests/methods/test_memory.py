"""The memory of each sample is the same on all workers, and in every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nla.methods.base import SampleMemory


@dataclass
class Pair:
    """The first of two workers, with the tensors that the second contributes to each gather."""

    other: list[Tensor]
    size: int = 2

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.cat([tensor, self.other.pop(0)])


def test_rows_of_both_workers_are_written_and_the_rest_stays() -> None:
    group = Pair([torch.tensor([3, 0]), torch.tensor([[30.0], [1.0]])])
    memory = SampleMemory(torch.full((5, 1), -1.0), group)
    memory.write(torch.tensor([4, 1]), torch.tensor([[40.0], [10.0]]))
    assert memory.read(torch.arange(5)).flatten().tolist() == [1.0, 10.0, -1.0, 30.0, 40.0]
    assert not group.other


def test_steps_of_both_workers_are_added_also_for_a_sample_that_occurs_twice() -> None:
    group = Pair([torch.tensor([3, 1]), torch.tensor([[30.0], [1.0]])])
    memory = SampleMemory(torch.full((5, 1), -1.0), group)
    memory.add(torch.tensor([4, 1]), torch.tensor([[40.0], [10.0]]))
    assert memory.read(torch.arange(5)).flatten().tolist() == [-1.0, 10.0, -1.0, 29.0, 39.0]
    assert not group.other


def test_it_is_in_the_state() -> None:
    assert list(SampleMemory(torch.zeros(2, 3), Pair([])).state_dict()) == ["rows_M"]
