"""Optimizer and learning-rate schedule.

The rate is a pure function of the step, so a resumed run needs no scheduler state. The trainer asks `LRSchedule` once
a step, writes the rate into the optimizer, and reads it from there for the log.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from nla.config.train import TrainConfig

# Smith & Topin 2017 with the values of torch.optim.lr_scheduler.OneCycleLR.
WARM_UP, START_DIVISOR, END_DIVISOR = 0.3, 25.0, 1e4


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD; weight decay acts on matrices and kernels, not on biases and BatchNorm."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, fused=True)


def warm_up_epochs(schedule: str, epochs: int) -> int:
    """Number of epochs, rounded up, during which a schedule raises the learning rate in a run of `epochs`."""
    return math.ceil(round(WARM_UP * epochs, 9)) if schedule == "one_cycle" else 0


@dataclass(frozen=True)
class LRSchedule:
    """The learning rate of each step of a run: `train.lr` shaped by `train.schedule`."""

    config: TrainConfig
    steps_per_epoch: int

    def __call__(self, step: int) -> float:
        """Returns the rate of `step`, counted from 0 over all epochs."""
        config, total = self.config, self.config.epochs * self.steps_per_epoch
        match config.schedule:
            case "constant":
                return config.lr
            case "exponential":
                return config.lr * config.gamma ** (step // self.steps_per_epoch)
            case "cosine":
                return _cosine(config.lr, 0.0, step / total)
            case "one_cycle":
                return _one_cycle(config.lr, step, total)


def _one_cycle(peak: float, step: int, total: int) -> float:
    start, top, last = peak / START_DIVISOR, WARM_UP * total - 1, total - 1
    if step <= top:
        return _cosine(start, peak, step / top)
    return _cosine(peak, start / END_DIVISOR, (step - top) / (last - top))


def _cosine(first: float, last: float, part: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * part)) / 2


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def get_lr(optimizer: torch.optim.Optimizer) -> float:
    """Returns the learning rate, which is the same for all parameters."""
    return float(optimizer.param_groups[0]["lr"])
