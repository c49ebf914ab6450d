"""Losses of the frames of clips: those of images, over the frames that a mask marks.

    criterion = FrameNLALoss("paper")
    loss = criterion(model(clips), model(mirrored_clips), labels, is_annotated, progress=epoch / epochs)

A frame that is padding, or that nobody annotated, changes neither the loss nor a gradient, whatever its logits and its
label are. All other frames count alike, however long their clip is: with every term averaged, as in "paper", neither
the number of clips nor their length changes the scale of the loss.

Lee et al., "V-NAW: Video-based Noise-aware Adaptive Weighting for Facial Expression Recognition", CVPR workshops 2025,
arXiv 2503.15970: the weight and the loss of NLA for each frame, and the mirrored clip as the second view. Its code is
the variant "released-video":

    L = .5 mean CE + .5 mean (w CE) + .4 J

with a weight w whose peak is 1, and J the Bhattacharyya distance *summed* over all frames of the batch, so that longer
clips or larger batches weigh consistency more. "paper" averages it.

Legend: B clips, T frames, C classes; M marked frames of all clips.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nla.losses.functional import cross_entropy, mean
from nla.losses.naw import Variant
from nla.losses.nla import NLALoss


class FrameNLALoss(nn.Module):
    """NLA's loss over the marked frames of a batch of clips.

    Args:
        variant: "paper", "released" or "released-video", as for `NLALoss`.
        **options: other arguments of `NLALoss`; None, as leaving out, means the variant's published default.

    Raises:
        ValueError: an unknown choice, or a value out of its range.
    """

    def __init__(self, variant: Variant = "paper", **options: Any) -> None:
        super().__init__()
        self.loss = NLALoss(variant, **options)
        self.two_views = self.loss.two_views

    def forward(
        self,
        logits: Tensor,
        logits_flipped: Tensor | None,
        target: Tensor,
        mask: Tensor,
        progress: float,
        replicas: int = 1,
        frames: int | None = None,
    ) -> Tensor:
        """The loss, a float32 scalar; 0 if no frame is marked.

        Raises TypeError if the mask is not of bool.

        Args:
            logits: [B, T, C] of the frames.
            logits_flipped: [B, T, C] of the frames of the mirrored clips; None only with consistency "none".
            target: [B, T] class indices, or [B, T, C] distributions; anything where the mask is False.
            mask: bool [B, T], True for the frames to learn from.
            progress: epoch / epochs, in [0, 1).
            replicas: number of workers that share the batch, as for `NLALoss`.
            frames: marked frames of the global batch; None: those of this one. Needed with several workers, whose parts
                of a batch have different numbers of annotated frames.
        """
        second_MC = None if logits_flipped is None else logits_flipped[mask]
        count = _per_worker(mask, replicas, frames)
        loss: Tensor = self.loss(logits[mask], second_MC, target[mask], progress, replicas, count)
        return loss


class FrameCrossEntropyLoss(nn.Module):
    """Cross-entropy, averaged over the marked frames of a batch of clips."""

    def forward(
        self, logits: Tensor, target: Tensor, mask: Tensor, replicas: int = 1, frames: int | None = None
    ) -> Tensor:
        """The loss, a float32 scalar; 0 if no frame is marked. Arguments are those of `FrameNLALoss`."""
        count = _per_worker(mask, replicas, frames)
        return mean(cross_entropy(logits[mask], target[mask]), count)


def _per_worker(mask: Tensor, replicas: int, frames: int | None) -> float:
    """Marked frames that each worker would have if all had as many; not 0, so that a mean over no frame is 0."""
    if mask.dtype != torch.bool:  # numbers would choose clips instead of frames
        raise TypeError(f"mask must be of bool (got {mask.dtype})")
    total = int(mask.sum()) if frames is None else frames
    return max(total, 1) / replicas
