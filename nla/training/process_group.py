"""The group of workers that train together: one process, or several joined by torch.distributed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class ProcessGroup:
    """This process's place in the group."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @classmethod
    def joined(cls, device: torch.device) -> ProcessGroup:
        """The group that torch.distributed has set up, or this process alone."""
        if not dist.is_initialized():
            return cls(device)
        return cls(device, dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this worker writes."""
        return self.rank == 0

    def replicate(self, model: nn.Module) -> nn.Module:
        """`model` with gradients averaged over the group; buffers stay each worker's own until `average_buffers`."""
        if self.size == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True, forward_sync_buffers=False)

    def total(self, tensor: Tensor) -> Tensor:
        """`tensor` summed over the group, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """[n, ...] of each worker, of one shape on all, as [size n, ...] in the order of their ranks."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def average_buffers(self, model: nn.Module) -> None:
        """BatchNorm's running statistics become the mean over the workers: each has seen its part of the batches."""
        if self.size > 1:
            for buffer in model.buffers():
                if buffer.is_floating_point():
                    self.total(buffer).div_(self.size)
