"""What is to be trained: all that a worker needs to know beside the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from nla.config.augment import AugmentConfig
from nla.config.base import Section, section
from nla.config.loss import LossConfig
from nla.config.model import RESNETS, ModelConfig
from nla.config.train import TrainConfig
from nla.data.statistics import pixel_statistics
from nla.errors import ConfigError
from nla.methods import check_method, looks_inside
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


def training_sections(params: Mapping[str, Any]) -> dict[str, Any]:
    """The checked sections that a training depends on, as keyword arguments of Job. Raises ConfigError."""
    kinds: dict[str, type[Section]] = {
        "model": ModelConfig,
        "augment": AugmentConfig,
        "loss": LossConfig,
        "train": TrainConfig,
    }
    sections: dict[str, Any] = {name: section(kind, params) for name, kind in kinds.items()}
    check_method(sections["loss"])
    _check_together(**sections)
    return sections


def _check_together(model: ModelConfig, augment: AugmentConfig, loss: LossConfig, train: TrainConfig) -> None:
    """Raises ConfigError for what each section allows, and all of them do not."""
    if looks_inside(loss) and model.name not in RESNETS:
        raise ConfigError(
            f"model.name: {loss.name} uses parts of the network, which are known of {', '.join(RESNETS)} alone, not of "
            f"{model.name}"
        )
    if train.compile and looks_inside(loss):
        raise ConfigError(
            f"train.compile: {loss.name} uses parts of the network, and the whole is compiled: set it to false"
        )
    if loss.name == "eac" and model.head != "linear":
        raise ConfigError(f"model.head: eac draws its maps with the weights of a linear head, not {model.head}")
