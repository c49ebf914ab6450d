"""Losses: tensors in, tensors out, and nothing imported but torch. One file a loss, one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from nla.losses.ce import CrossEntropyLoss
from nla.losses.naw import naw_weight
from nla.losses.nla import NLALoss

__all__ = ["CrossEntropyLoss", "Loss", "NLALoss", "build_loss", "naw_weight"]


class Loss(Protocol):
    """What the training step asks of a loss."""

    two_views: bool
    """Whether the logits of the mirrored image are looked at; where not, they are not computed."""

    def __call__(
        self, logits: Tensor, logits_flipped: Tensor | None, target: Tensor, progress: float, replicas: int = 1
    ) -> Tensor: ...


def build_loss(name: str, parameters: Mapping[str, Any]) -> Loss:
    """The loss called `name`; `parameters` are NLALoss's arguments, which plain cross-entropy has no use for."""
    return NLALoss(**parameters) if name == "nla" else CrossEntropyLoss()
