"""What a training method is: how a batch becomes a loss, with whatever it remembers or learns beside the network.

A method is a module: its parameters are trained with the network, its buffers lie in every checkpoint.
Random choices are drawn from PyTorch's state, which each epoch starts anew, so that a resume repeats them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from nla.models.classifier import Classifier


class Minibatch(NamedTuple):
    """This worker's part of a global batch, N samples, on the device."""

    images_NHWC: Tensor
    """uint8."""
    target: Tensor
    """[N] class indices, or [N, C] distributions."""
    index_N: Tensor
    """int64 positions among the training samples."""
    progress: float
    """epoch / epochs, in [0, 1)."""


class Outcome(NamedTuple):
    """What a method makes of a batch."""

    loss: Tensor
    """Scalar."""
    logits_NC: Tensor
    """Of the images, by which their places (p_GT, p_NN) are recorded."""


class Group(Protocol):
    """The workers among which each batch is split."""

    @property
    def size(self) -> int:
        """Number of workers."""

    def gather(self, tensor: Tensor) -> Tensor:
        """Rows of all workers, in the order of the global batch, from those of this one."""


@dataclass(frozen=True)
class Context:
    """What a method may know of the training it takes part in."""

    label_N: Tensor
    """int64 given labels of all training samples."""
    num_classes: int
    group: Group
    build: Callable[[], Classifier]
    """Another network like the one that is trained, with first weights of its own."""

    @property
    def class_counts(self) -> Tensor:
        """Training samples per class, [C]."""
        return torch.bincount(self.label_N, minlength=self.num_classes)


class Method(nn.Module):
    """Base of all methods."""

    looks_inside: ClassVar[bool] = False
    """Whether it uses parts of the network, which torch.compile, of the whole, does not reach."""
    needs_linear_head: ClassVar[bool] = False

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        """The loss of a batch; runs under autocast where training does."""
        raise NotImplementedError


class OneView(Method):
    """A loss of the logits of the images alone: loss(logits_NC, target) -> scalar."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        logits_NC = network(batch.images_NHWC)
        return Outcome(self.loss(logits_NC, batch.target), logits_NC)
