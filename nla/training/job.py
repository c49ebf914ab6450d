"""The sections of params.yaml that a training depends on, checked each and together.

What is to be trained: all that a worker needs to know beside the images.

What a training starts from: weights of a local file, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from nla.config.augment import AugmentConfig
from nla.config.base import section
from nla.config.loss import LossConfig
from nla.config.model import RESNETS, ModelConfig
from nla.config.train import TrainConfig
from nla.data.images import pixel_statistics
from nla.errors import ConfigError
from nla.methods import check_method, method_class
from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.models.weights import start_from


class Sections(NamedTuple):
    """In the order in which Job takes them."""

    model: ModelConfig
    augment: AugmentConfig
    loss: LossConfig
    train: TrainConfig

    def dump(self) -> dict[str, dict[str, Any]]:
        """JSON-able, by name; with defaults."""
        return {name: config.model_dump(mode="json") for name, config in self._asdict().items()}


def training_sections(params: Mapping[str, Any], file: str = "params.yaml") -> Sections:
    """Those of `params`. Raises ConfigError, which names `file` for a wrong key."""
    sections = Sections(
        section(ModelConfig, params, file),
        section(AugmentConfig, params, file),
        section(LossConfig, params, file),
        section(TrainConfig, params, file),
    )
    check_method(sections.loss)
    _check_together(sections)
    return sections


def _check_together(sections: Sections) -> None:
    """Raises ConfigError for what each section allows, and all of them do not."""
    model, loss, method = sections.model, sections.loss, method_class(sections.loss)
    if method.needs_feature_maps and model.name not in RESNETS:
        raise ConfigError(
            f"model.name: {loss.name} uses parts of the network, which are known of {', '.join(RESNETS)} alone, not of "
            f"{model.name}"
        )
    if sections.train.compile and method.needs_feature_maps:
        raise ConfigError(
            f"train.compile: {loss.name} uses parts of the network, and the whole is compiled: set it to false"
        )
    if method.needs_linear_head and model.head != "linear":
        raise ConfigError(f"model.head: {loss.name} uses the weights of a linear head: set it to linear")


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


def with_first_weights(job: Job, root: Path) -> tuple[Job, str]:
    """The job with the weights of model.weights, a path from `root` on, and a line that says what it starts from."""
    if job.model.weights is None:
        line = "NO PRETRAINED WEIGHTS: training starts FROM SCRATCH (model.weights is null)"
        return replace(job, facts={**job.facts, "first_weights": None}), line
    start = start_from(job.build(), root / job.model.weights)
    line = f"first weights: {start.path}, sha256 {start.sha256}, not used: {', '.join(start.skipped) or 'nothing'}"
    first = {"sha256": start.sha256, "skipped": list(start.skipped)}
    started = replace(job, first_weights=start.tensors, facts={**job.facts, "first_weights": first})
    return started, line
