"""What is to be trained: all that a worker needs to know beside the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from nla.config.augment import AugmentConfig
from nla.config.loss import LossConfig
from nla.config.model import ModelConfig
from nla.config.train import TrainConfig
from nla.data.statistics import pixel_statistics
from nla.models.classifier import Architecture, Classifier, ImageSpec


@dataclass(frozen=True)
class Job:
    """One training."""

    model: ModelConfig
    augment: AugmentConfig
    loss: LossConfig
    train: TrainConfig
    num_classes: int
    image: ImageSpec
    fingerprint: str = ""
    """Hash of parameters, data and code; a checkpoint of another one is not gone on with."""
    first_weights: Mapping[str, Tensor] | None = None
    """Tensors of the backbone to start from; what is not among them, and None, starts as the seed says."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Recorded with the result."""

    def build(self) -> Classifier:
        """The network with PyTorch's random state as it is: seed before."""
        return Classifier(Architecture.of(self.model, self.num_classes), self.image)


def image_spec(images_NHWC: np.ndarray) -> ImageSpec:
    """What a network takes that is to be trained on these images."""
    _, size, _, channels = images_NHWC.shape
    return ImageSpec(size, channels, *pixel_statistics(images_NHWC))
