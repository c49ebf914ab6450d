"""Methods for clips: from a batch of clips to a loss. NLA, of both views of each clip, and cross-entropy of the first.

Legend: B clips, T frames, F features, C classes, M annotated frames of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nla.config.loss import NLA, LossConfig
from nla.errors import ConfigError
from nla.losses.frames import FrameCrossEntropyLoss, FrameNLALoss
from nla.methods.base import Outcome
from nla.models.base import Network
from nla.training.process_group import ProcessGroup


@dataclass(frozen=True)
class ClipBatch:
    """This worker's clips of a batch, on the device."""

    features_BT2F: Tensor
    """Of the frames and of their mirror images."""
    mask_BT: Tensor
    """False for padding."""
    annotated_BT: Tensor
    """True for frames with a label; none of them is padding."""
    frame_BT: Tensor
    label: Tensor
    """[B, T] class indices, or [B, T, C] distributions; anything without annotation."""
    index_BT: Tensor
    progress: float
    """epoch / epochs, in [0, 1)."""

    @property
    def target(self) -> Tensor:
        """[M] class indices, or [M, C] distributions."""
        return self.label[self.annotated_BT]

    @property
    def index_N(self) -> Tensor:  # noqa: N802
        """Positions of the annotated frames among all frames of the split, [M]."""
        return self.index_BT[self.annotated_BT]


class ClipMethod(nn.Module):
    """Both views go through the network as one batch, as far as the loss needs them.

    Args:
        config: the section `sequence.loss`.
        group: the workers that share a batch.

    Raises:
        ConfigError: an option is out of its range.
    """

    def __init__(self, config: LossConfig, group: ProcessGroup) -> None:
        super().__init__()
        self.group = group
        self.loss: FrameNLALoss | FrameCrossEntropyLoss = FrameCrossEntropyLoss()
        if config.name == NLA:
            try:
                self.loss = FrameNLALoss(**config.given_options)
            except ValueError as error:
                raise ConfigError(f"sequence.loss: {error}") from None

    def forward(self, network: Network, batch: ClipBatch) -> Outcome:
        views = 2 if isinstance(self.loss, FrameNLALoss) and self.loss.two_views else 1
        both = batch.features_BT2F.float()  # autocast to bfloat16 concatenates no float16
        features = torch.cat([both[:, :, view] for view in range(views)])
        logits = network(features, batch.mask_BT.repeat(views, 1), batch.frame_BT.repeat(views, 1))
        first, second = logits.chunk(2) if views == 2 else (logits, None)
        frames = int(self.group.sum(batch.annotated_BT.sum()))
        shared = self.group.size, frames
        if isinstance(self.loss, FrameNLALoss):
            loss = self.loss(first, second, batch.label, batch.annotated_BT, batch.progress, *shared)
        else:
            loss = self.loss(first, batch.label, batch.annotated_BT, *shared)
        return Outcome(loss, first[batch.annotated_BT])
