"""The processes that train together: a single one, or several joined by torch.distributed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class ProcessGroup:
    """This process's device, its rank, and the number of processes."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls, device: torch.device) -> ProcessGroup:
        """The group that torch.distributed has set up; without one, this process as the only member."""
        if not dist.is_initialized():
            return cls(device)
        return cls(device, dist.get_rank(), dist.get_world_size())

    @property
    def is_main(self) -> bool:
        """Whether this process writes checkpoints and calls the callbacks."""
        return self.rank == 0

    def replicate(self, model: nn.Module) -> nn.Module:
        """Returns `model` with gradients averaged over the group; buffers stay local until `average_buffers`."""
        if self.size == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True, forward_sync_buffers=False)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sums `tensor` over the group, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """Concatenates [n, ...] of all processes, which have the same shape, to [size n, ...] in the order of ranks."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def average_buffers(self, model: nn.Module) -> None:
        """Averages BatchNorm's running statistics over the group: each process has seen its part of the batches."""
        if self.size > 1:
            for buffer in model.buffers():
                if buffer.is_floating_point():
                    self.sum(buffer).div_(self.size)
