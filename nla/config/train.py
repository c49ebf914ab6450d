"""`train`: optimisation of the network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from nla.config.base import Section
from nla.errors import ConfigError

Metric = Literal["accuracy", "mean_accuracy"]
METRICS = get_args(Metric)
"""Metrics by which validation can choose the epoch, and trials and methods are compared."""


class TrainConfig(Section):
    """Optimisation of the network."""

    NAME: ClassVar[str] = "train"

    seed: Annotated[int, Field(ge=0)] = 0
    epochs: Annotated[int, Field(ge=1)] = 5
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Global batch size, divided evenly among the workers."""
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    """shuffle: every sample once per epoch; balanced: equally many of each class, repeating those of small classes."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 3e-3
    """Peak learning rate of the schedule."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """For sgd."""
    schedule: Literal["one_cycle", "cosine", "exponential", "constant"] = "one_cycle"
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Factor per epoch, for exponential."""
    grad_clip: Annotated[float, Field(ge=0)] = 0.0
    """Maximum norm of the gradient; 0 is off."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay per step of the averaged weights, validated and kept with BatchNorm statistics of their own; 0: off."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on hardware where it is faster: GPUs from Ampere on, CPUs with AMX, AMD CPUs from Zen 4 on."""
    channels_last: bool = True
    compile: bool = False
    """Use torch.compile, which needs a C++ compiler on a CPU."""
    freeze_batchnorm: bool = False
    """Keep the running statistics fixed: for fine-tuning, and for exact comparisons of worker counts."""
    select: Metric = "accuracy"
    """Validation metric by which the epoch is chosen."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs without a better validation metric before training stops early; 0 is off."""

    def is_over(self, epochs_done: int, best_epoch: int) -> bool:
        """Whether training ends after `epochs_done` epochs. Epochs count from 1; a `best_epoch` of 0 means none yet."""
        return epochs_done >= self.epochs or 0 < self.patience <= epochs_done - best_epoch


def check_batch(batch_size: int, counts: Iterable[int], key: str) -> None:
    """Raises ConfigError if the batch size is not divisible by each of the worker counts that `key` allows."""
    if wrong := [count for count in counts if batch_size % count]:
        raise ConfigError(
            f"train.batch_size: {batch_size} does not divide among {', '.join(map(str, wrong))} workers: change it or "
            f"{key}"
        )
