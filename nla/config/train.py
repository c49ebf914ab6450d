"""`train`: how the loss is minimised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from nla.config.base import Section
from nla.errors import ConfigError

Metric = Literal["accuracy", "mean_accuracy"]
METRICS = get_args(Metric)
"""By which validation may choose, and trials and methods are compared."""


class TrainConfig(Section):
    """How the loss is minimised."""

    NAME: ClassVar[str] = "train"

    seed: Annotated[int, Field(ge=0)] = 0
    epochs: Annotated[int, Field(ge=1)] = 5
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Global: divided evenly among the workers."""
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    """shuffle: every sample once an epoch; balanced: as many of each class, those of small classes several times."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 3e-3
    """The peak of the schedule."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """For sgd."""
    schedule: Literal["one_cycle", "cosine", "exponential", "constant"] = "one_cycle"
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Factor an epoch, for exponential."""
    grad_clip: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of the gradient; 0 is off."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay a step of the averaged weights that are validated and kept; 0 is off."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the hardware is faster at it: a GPU from Ampere on, a CPU with AMX, AMD's from Zen 4 on."""
    channels_last: bool = True
    compile: bool = False
    """By torch.compile, which needs a C++ compiler on a CPU."""
    freeze_batchnorm: bool = False
    """Keep the running statistics as they are: for fine-tuning, and for comparing worker counts exactly."""
    select: Metric = "accuracy"
    """Validation metric that chooses the epoch."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs without a better validation metric before training stops early; 0 is off."""

    def is_over(self, epochs_done: int, best_epoch: int) -> bool:
        """Whether a training ends after so many epochs; they count from 1, and `best_epoch` is 0 before the first."""
        return epochs_done >= self.epochs or 0 < self.patience <= epochs_done - best_epoch


def check_batch(batch_size: int, counts: Iterable[int], key: str) -> None:
    """Raises ConfigError where a global batch does not divide by each of the worker counts that `key` allows."""
    if wrong := [count for count in counts if batch_size % count]:
        raise ConfigError(
            f"train.batch_size: {batch_size} does not divide among {', '.join(map(str, wrong))} workers: change it or "
            f"{key}"
        )
