"""Positions of the training samples in the plane of NLA: (p_GT, p_NN) of every sample, early in training and late.

Legend: N samples of a batch, M training samples.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nla.training.process_group import ProcessGroup

EARLY = 8
"""Early positions are those of the epoch after 1 / EARLY of training, not of the first one, which starts untrained."""


def early_epoch(epochs: int) -> int:
    """Number of complete epochs before that of the early positions."""
    return min(max(epochs // EARLY, 1), epochs - 1)


class Positions:
    """The last recorded position of each of the M samples; NaN for a sample that was in no batch so far."""

    def __init__(self, samples: int, device: torch.device) -> None:
        self.early_M2 = torch.full((samples, 2), torch.nan, device=device)
        self.late_M2 = self.early_M2.clone()
        self._epoch_M2 = torch.zeros_like(self.late_M2)

    def record(self, index_N: Tensor, positions_N2: Tensor) -> None:
        """Records the positions of a local batch."""
        self._epoch_M2[index_N] = positions_N2

    def end_epoch(self, group: ProcessGroup) -> None:
        """Merges the epoch's positions of all processes into the late ones; samples not seen keep their position."""
        seen_M2 = self._epoch_M2
        # With balanced sampling, several processes may see the same sample: take the mean of its positions.
        times_M1 = group.sum(seen_M2.any(dim=1, keepdim=True).float())
        group.sum(seen_M2).div_(times_M1.clamp(min=1))
        self.late_M2.copy_(torch.where(times_M1 > 0, seen_M2, self.late_M2))
        seen_M2.zero_()

    def copy_late_to_early(self) -> None:
        """Makes the late positions the early ones, too."""
        self.early_M2.copy_(self.late_M2)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the tensors for a checkpoint, which is taken between epochs."""
        return {"early": self.early_M2, "late": self.late_M2}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores the result of `state_dict`."""
        self.early_M2.copy_(tensors["early"])
        self.late_M2.copy_(tensors["late"])
