"""Small networks and batches for the tests of training methods."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nla.methods import Context, Minibatch
from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.training.process_group import ProcessGroup

CLASSES, SIZE = 3, 16


def small_network(seed: int = 0, name: str = "resnet18") -> Classifier:
    """A ResNet of width 4 for 16 x 16 grey images, in training mode."""
    torch.manual_seed(seed)
    return Classifier(Architecture(name, 4, "stride2", 0.0, CLASSES), ImageSpec(SIZE, 1, (0.4,), (0.25,)))


def context(samples: int = 12, labels: Sequence[int] | None = None, name: str = "resnet18") -> Context:
    """One worker, and `samples` labels in a cycle of the classes, or those given."""
    label_N = torch.arange(samples) % CLASSES if labels is None else torch.tensor(labels)
    return Context(label_N, CLASSES, ProcessGroup(torch.device("cpu")), lambda: small_network(1, name))


def minibatch(indices: Sequence[int], progress: float = 0.0) -> Minibatch:
    """The samples at `indices`: the same index gives the same image and label in every batch."""
    index_N = torch.tensor(indices)
    images = [
        torch.randint(0, 256, (SIZE, SIZE, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))
        for i in indices
    ]
    return Minibatch(torch.stack(images), index_N % CLASSES, index_N, progress)
