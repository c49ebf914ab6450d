"""Interface of training methods: a method turns a batch into a loss.

A method is a module: its parameters are trained together with the network, and its buffers are in every checkpoint.
Random choices use PyTorch's global generator, which is reseeded at each epoch, so that a resumed run repeats them.

Legend: N samples of one worker, G of the global batch, M of the training set, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from nla.models.classifier import Classifier


class Minibatch(NamedTuple):
    """This worker's part of a global batch: N samples, on the device."""

    images_NHWC: Tensor
    """uint8."""
    target: Tensor
    """[N] class indices, or [N, C] distributions."""
    index_N: Tensor
    """int64 indices of the samples in the training set."""
    progress: float
    """epoch / epochs, in [0, 1)."""


class Outcome(NamedTuple):
    """The result of a method for one batch."""

    loss: Tensor
    """Scalar."""
    logits_NC: Tensor
    """Logits of the images, from which their positions (p_GT, p_NN) are recorded."""


class Group(Protocol):
    """The workers among which each batch is split."""

    @property
    def size(self) -> int:
        """Number of workers."""

    def gather(self, tensor: Tensor) -> Tensor:
        """Returns the rows of all workers, in the order of the global batch, given those of this worker."""


@dataclass(frozen=True)
class Context:
    """What a method can know about the run that it is part of."""

    label_N: Tensor
    """int64 given labels of all training samples."""
    num_classes: int
    group: Group
    build: Callable[[], Classifier]
    """Builds another network of the trained architecture, with its own initial weights."""
    target_NC: Tensor | None = None
    """Distributions [N, C] that are learnt instead of the labels, if any."""

    @property
    def class_counts(self) -> Tensor:
        """Number of training samples of each class, [C]: int64 from labels; from distributions their float64 sums.

        The labels of distributions would not do: a class that rarely has the largest share is rarer among the labels
        than among the targets, which are what is learnt.
        """
        if self.target_NC is not None:
            return self.target_NC.double().sum(dim=0)
        return torch.bincount(self.label_N, minlength=self.num_classes)


class Method(nn.Module):
    """Base of all methods."""

    needs_feature_maps: ClassVar[bool] = False
    """Whether it calls `network.maps` or `network.feature_backbone`, which timm's networks lack and
    torch.compile does not cover."""
    needs_linear_head: ClassVar[bool] = False
    """Whether it uses the weights of the last layer, which must be linear."""
    frequency_options: ClassVar[tuple[str, ...]] = ()
    """Its options that correct class frequencies, each of them off at 0; class-balanced sampling must not be added."""

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        """Computes the loss of a batch; runs under autocast if training does."""
        raise NotImplementedError

    def end_epoch(self, network: Classifier, batches: Iterable[Minibatch]) -> None:
        """Called after each epoch, without gradients, with this worker's part of its batches once more; does nothing.

        It may put modules into evaluation mode. Nothing is computed for batches that are not asked for.
        """


class OneView(Method):
    """A method that only needs the logits of the images: loss(logits_NC, target) -> scalar."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        logits_NC = network(batch.images_NHWC)
        return Outcome(self.loss(logits_NC, batch.target), logits_NC)


class SampleMemory(nn.Module):
    """A row for each of the M training samples, kept from epoch to epoch, and part of every checkpoint.

    It is identical on all workers: a row that one of them writes is written on all, because each epoch distributes the
    samples differently.

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

    def add(self, index_N: Tensor, step_N: Tensor) -> None:
        """Adds to the rows of this worker's samples, twice if a sample occurs twice; called as `write` is."""
        self.rows_M.index_add_(0, self.group.gather(index_N), self.group.gather(step_N))
