"""`train`: optimisation of the network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from nla.config.base import Section
from nla.errors import ConfigError
from nla.limits import MOST_EPOCHS, MOST_ROWS_OF_A_BATCH

Metric = Literal["accuracy", "mean_accuracy", "macro_f1"]
METRICS = get_args(Metric)
"""Validation metrics for selecting the best epoch and for comparing trials."""
ACCURACIES = ("accuracy", "mean_accuracy")
"""Those that `tune.objective: both` averages, and by which studies compare methods."""


class TrainConfig(Section):
    """Optimisation of the network."""

    NAME: ClassVar[str] = "train"

    seed: Annotated[int, Field(ge=0)] = 0
    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] = 5
    batch_size: Annotated[int, Field(ge=1, le=MOST_ROWS_OF_A_BATCH)] = 64
    """Global batch size, divided evenly among the workers."""
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    """shuffle: every sample once per epoch; balanced: the same number from each class, oversampling small ones."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 3e-3
    """Peak learning rate of the schedule."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD only."""
    schedule: Literal["one_cycle", "cosine", "exponential", "constant"] = "one_cycle"
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Decay factor per epoch (exponential schedule only)."""
    grad_clip: Annotated[float, Field(ge=0)] = 0.0
    """Maximum norm of the gradient; 0 disables it."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """EMA decay per step; the averaged weights, with BatchNorm statistics of their own, are the ones validated and
    saved. 0 disables it."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where it is faster: on GPUs with bf16, CPUs with AMX, and AMD CPUs with AVX512-BF16."""
    channels_last: bool = True
    compile: bool = False
    """Use torch.compile, which needs a C++ compiler on a CPU."""
    freeze_batchnorm: bool = False
    """Freeze BatchNorm running statistics, for fine-tuning and for exact comparisons of worker counts."""
    select: Metric = "accuracy"
    """Validation metric that selects the best epoch."""
    soften: bool = False
    """Train ambiguous faces on the distribution that the audit suggests for them; needs `audit.folds`. Only the stage
    `train` does so: the search and the audit itself learn the labels."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs without a better validation metric before training stops early; 0 disables it."""

    def is_over(self, epochs_done: int, best_epoch: int) -> bool:
        """Whether training ends after `epochs_done` epochs; `best_epoch` counts from 1, and is 0 until there is one."""
        return epochs_done >= self.epochs or 0 < self.patience <= epochs_done - best_epoch


def check_batch(batch_size: int, counts: Iterable[int], key: str) -> None:
    """Raises ConfigError, naming the config key `key`, unless the batch size is divisible by each worker count."""
    if wrong := [count for count in counts if batch_size % count]:
        raise ConfigError(
            f"train.batch_size: {batch_size} is not divisible by {' or '.join(map(str, wrong))} workers. Change it or "
            f"{key}."
        )
