"""(p_GT, p_NN) of every training sample, early in training and late.

Legend: N samples of a batch, M training samples.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nla.training.process_group import ProcessGroup

EARLY = 8
"""The early positions are those of the epoch after 1 / EARLY of training, and not of the first, which begins with a
network that knows nothing."""


def early_epoch(epochs: int) -> int:
    """Whole epochs before that of the early positions."""
    return min(max(epochs // EARLY, 1), epochs - 1)


class Positions:
    """Where each of the M samples was when it was seen last; NaN if it was in no batch so far."""

    def __init__(self, samples: int, device: torch.device) -> None:
        self.early_M2 = torch.full((samples, 2), torch.nan, device=device)
        self.late_M2 = self.early_M2.clone()
        self._epoch_M2 = torch.zeros_like(self.late_M2)

    def record(self, index_N: Tensor, positions_N2: Tensor) -> None:
        """Positions of a batch of this worker."""
        self._epoch_M2[index_N] = positions_N2

    def end_epoch(self, workers: ProcessGroup) -> None:
        """Makes the positions of the epoch, of all workers, the late ones; samples that were left out keep theirs."""
        seen_M2 = self._epoch_M2
        times_M1 = workers.total(seen_M2.any(dim=1, keepdim=True).float())  # if balanced, several workers may see one
        workers.total(seen_M2).div_(times_M1.clamp(min=1))
        self.late_M2.copy_(torch.where(times_M1 > 0, seen_M2, self.late_M2))
        seen_M2.zero_()

    def keep_as_early(self) -> None:
        """Makes the late positions the early ones, too."""
        self.early_M2.copy_(self.late_M2)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of them, after an epoch."""
        return {"early": self.early_M2, "late": self.late_M2}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        self.early_M2.copy_(tensors["early"])
        self.late_M2.copy_(tensors["late"])
