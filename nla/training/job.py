"""What to train: the validated configuration of a run, its input and its initial weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from nla.config.augment import AugmentConfig
from nla.config.base import Section, section
from nla.config.loss import LossConfig
from nla.config.model import ModelConfig
from nla.config.network_catalog import offering
from nla.config.train import TrainConfig
from nla.data.images import pixel_statistics
from nla.errors import ConfigError
from nla.methods import (
    Context,
    Method,
    build_method,
    check_method,
    frequency_corrections,
    method_class,
    resolved_loss,
)
from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.models.recalibration import calibration_images, recalibrated
from nla.models.weights import start_from, weights_path


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The sections of params.yaml that determine a training run."""

    model: ModelConfig
    augment: AugmentConfig
    loss: LossConfig
    train: TrainConfig

    @property
    def sections(self) -> dict[str, Section]:
        """The sections by name, in the order of params.yaml."""
        return {"model": self.model, "augment": self.augment, "loss": self.loss, "train": self.train}

    def dump(self) -> dict[str, dict[str, Any]]:
        """Every value, defaults included, by section; JSON-serializable."""
        return {name: config.model_dump(mode="json") for name, config in self.sections.items()}

    def resolved(self) -> dict[str, dict[str, Any]]:
        """The same with the effective values of the method's options: what names, logs and records a run."""
        return self.dump() | {"loss": resolved_loss(self.loss)}


def training_config(params: Mapping[str, Any], file: str = "params.yaml") -> TrainingConfig:
    """Validates the sections of `params`, each by itself and all together.

    Raises:
        ConfigError: a key or value is wrong, or two sections exclude each other; the message names `file`.
    """
    config = TrainingConfig(
        model=section(ModelConfig, params, file),
        augment=section(AugmentConfig, params, file),
        loss=section(LossConfig, params, file),
        train=section(TrainConfig, params, file),
    )
    check_method(config.loss)
    _check_method_fits_network(config)
    corrections = {f"{config.loss.options_key}.{name}": v for name, v in frequency_corrections(config.loss).items()}
    check_frequencies_corrected_once(config.train, config.loss.name, corrections)
    return config


def _check_method_fits_network(config: TrainingConfig) -> None:
    """Raises ConfigError if the method needs a part of the network that this one does not offer."""
    model, loss, method = config.model, config.loss, method_class(config.loss)
    if method.needs_feature_maps and model.name not in (suitable := offering("has_feature_maps")):
        raise ConfigError(
            f"model.name: loss {loss.name} reads the network's feature maps, which {model.name} does not offer. "
            f"Use {', '.join(suitable)}."
        )
    if config.train.compile and method.needs_feature_maps:
        raise ConfigError(
            f"train.compile: loss {loss.name} reads the network's feature maps, which a compiled network hides. "
            "Set it to false."
        )
    if method.needs_linear_head and model.head != "linear":
        raise ConfigError(
            f"model.head: loss {loss.name} reads the weights of a linear head (got {model.head}). Set it to linear."
        )


def check_frequencies_corrected_once(train: TrainConfig, method: str, corrections: Mapping[str, Any]) -> None:
    """Raises ConfigError if both the sampler and the method correct class frequencies.

    Args:
        train: the section, with its sampler.
        method: name of the method.
        corrections: options by which it corrects them, by the names that the message shows; {} if it does not.
    """
    if train.sampler == "balanced" and corrections:
        values = ", ".join(f"{name.rpartition('.')[2]} {value:g}" for name, value in corrections.items())
        raise ConfigError(
            f"train.sampler: balanced sampling and loss {method} ({values}) would correct class frequencies twice "
            f"(got balanced). Set it to shuffle, or {' and '.join(corrections)} to 0."
        )


@dataclass(frozen=True)
class Job:
    """All that a training process needs besides the images."""

    config: TrainingConfig
    num_classes: int
    image: ImageSpec
    fingerprint: str = ""
    """Hash of parameters, data and code; a run never resumes from a checkpoint with another one."""
    first_weights: Mapping[str, Tensor] | None = None
    """Initial tensors of the backbone; those that it lacks, or all if None, are initialised from the seed."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Recorded with the result."""
    method: Callable[[Context], Method] | None = None
    """Builds a method from outside of METHODS, in place of the one that `config.loss` selects."""

    def build(self) -> Classifier:
        """Builds the network; its random weights come from PyTorch's global generator, so seed that first."""
        return Classifier(Architecture.of(self.config.model, self.num_classes), self.image)

    def build_method(self, context: Context) -> Method:
        """Builds the training method. Raises ConfigError for an option out of its range."""
        return build_method(self.config.loss, context) if self.method is None else self.method(context)


def image_spec(images_NHWC: np.ndarray) -> ImageSpec:
    """Returns the input that a network trained on these images takes; uint8 [N, H, W, C] with H = W."""
    _, size, _, channels = images_NHWC.shape
    return ImageSpec(size, channels, *pixel_statistics(images_NHWC))


def with_first_weights(job: Job, images_NHWC: np.ndarray, root: Path) -> tuple[Job, str]:
    """Loads `model.weights` into the job.

    Args:
        images_NHWC: training images, from some of which batch norms get statistics if the file has none.
        root: folder that a path is relative to.

    Returns the job, and a line for the console that states what training starts from.
    """
    weights = job.config.model.weights
    if weights is None:
        line = "NO PRETRAINED WEIGHTS: training starts FROM SCRATCH (model.weights is null)"
        return replace(job, facts={**job.facts, "first_weights": None}), line
    model = job.build()
    start = start_from(model, weights_path(weights, root))
    line = f"first weights: {start.path}, sha256 {start.sha256}, not used: {', '.join(start.skipped) or 'nothing'}"
    first: dict[str, Any] = {"sha256": start.sha256, "skipped": list(start.skipped)}
    tensors = start.tensors
    if start.folded:
        images = calibration_images(images_NHWC, job.config.train.seed)
        tensors = recalibrated(model, tensors, images)
        first["calibration_images"] = len(images)
        line += f"; statistics of batch norms from {len(images)} training images"
    return replace(job, first_weights=tensors, facts={**job.facts, "first_weights": first}), line
