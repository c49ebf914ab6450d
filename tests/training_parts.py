"""Small jobs and callbacks for the tests of training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from nla.config.augment import AugmentConfig
from nla.config.loss import LossConfig
from nla.config.model import ModelConfig
from nla.config.train import TrainConfig
from nla.data.samples import Samples
from nla.models.classifier import ImageSpec
from nla.training.callbacks import Callback
from nla.training.checkpoint import STATE, read_group
from nla.training.checkpoint_store import FolderStore
from nla.training.job import Job, TrainingConfig
from nla.training.process_group import ProcessGroup
from nla.training.trainer import Split, Trainer

CPU = torch.device("cpu")
SINGLE = ProcessGroup(CPU)
CLASSES = 3
MakeSamples = Callable[..., Samples]
"""The fixture `tiny_samples`."""


def make_job(
    *,
    size: int = 16,
    fingerprint: str = "tiny",
    recipe: str = "none",
    loss: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    **train: Any,
) -> Job:
    """A job on `tiny_samples`: ResNet-18 of width 4 in float32, cross-entropy and SGD, unless stated otherwise."""
    plain = {"epochs": 3, "batch_size": 16, "optimizer": "sgd", "lr": 0.05, "weight_decay": 0.0, "precision": "fp32"}
    config = TrainingConfig(
        model=ModelConfig(**{"width": 4} | (model or {})),
        augment=AugmentConfig(recipe=recipe),
        loss=LossConfig(**{"name": "ce"} | (loss or {})),
        train=TrainConfig(**plain | {"schedule": "constant"} | train),
    )
    image = ImageSpec(size, 1, (0.4,), (0.25,))
    return Job(config, num_classes=CLASSES, image=image, fingerprint=fingerprint)


def make_trainer(job: Job, samples: int = 32) -> Trainer:
    """A trainer of dark images, for tests of single steps; its store is never used."""
    images_NHWC = np.zeros((samples, job.image.size, job.image.size, 1), np.uint8)
    dark = Samples(images_NHWC, np.arange(samples) % CLASSES, None, np.arange(samples), ("a", "b", "c"), "dark")
    return Trainer(job, Split(dark, dark), SINGLE, FolderStore(Path("unused")))


class CallRecorder(Callback):
    """Records all calls."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, int, int]] = []
        self.rows: list[dict[str, float]] = []

    def on_step_end(self, epoch: int, step: int, steps: int, images: int) -> None:
        self.steps.append((epoch, step, steps, images))

    def on_epoch_end(self, row: dict[str, float]) -> None:
        self.rows.append(row)


class Stop(Exception):
    """The run is interrupted."""


class StopAt(Callback):
    """Interrupts a run after an epoch, or at a step of an epoch counted from 0."""

    def __init__(self, epoch: int, step: int | None = None) -> None:
        self.at = (epoch, step)

    def on_step_end(self, epoch: int, step: int, steps: int, images: int) -> None:
        if (epoch, step) == self.at:
            raise Stop

    def on_epoch_end(self, row: dict[str, float]) -> None:
        if (row["epoch"], None) == self.at:
            raise Stop


class KeepWeights(Callback):
    """Keeps the weights of each epoch, from the checkpoint that was saved just before."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.weights = folder, list[dict[str, torch.Tensor]]()

    def on_epoch_end(self, row: dict[str, float]) -> None:
        self.weights.append(read_group(checkpoint_of(self.folder), "last"))


def checkpoint_of(folder: Path) -> Path:
    """The last checkpoint in a FolderStore's folder."""
    return max(folder.glob("epoch-*"))


def content(folder: Path) -> dict[str, Any]:
    """Everything in a checkpoint except times, to be compared bit for bit."""
    state = json.loads((folder / STATE).read_text())
    del state["sha256"]  # of the times, too
    for row in state["history"]:
        del row["seconds"], row["images_per_second"]
    tensors = {
        f"{path.stem}/{name}": (tuple(tensor.shape), tensor.dtype, tensor.numpy().tobytes())
        for path in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }
    return {**state, **tensors}
