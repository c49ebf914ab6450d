"""One training of a study, in its own process, with its measurements on test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nla.data.samples import Samples
from nla.evaluation.metrics import accuracy, confusion, mean_accuracy
from nla.evaluation.predict import Views, predict
from nla.evaluation.weight import position_weight
from nla.hardware import machine, versions
from nla.io import read_json, write_json
from nla.models.card import load_state
from nla.models.classifier import Classifier
from nla.study.claims import weight_claims
from nla.study.variants import Variant
from nla.training.callbacks import Callback
from nla.training.checkpoint import FolderStore, Progress, read_group
from nla.training.job import Job
from nla.training.process_group import ProcessGroup
from nla.training.trainer import Trainer

SEEN = "test.json"


@dataclass(frozen=True)
class Result:
    """Outcome of a training."""

    progress: Progress
    on_test: Mapping[str, list[float]]
    """test_accuracy and test_mean_accuracy of each epoch; {} if test was not measured."""
    best_predicted: np.ndarray
    """Class of each test row by the epoch chosen on validation, [N] uint8; [0] if test was not measured."""
    last_predicted: np.ndarray
    claims: Mapping[str, Any]
    """What the weights of the training samples show; JSON-able."""
    place: Mapping[str, Any]
    """`machine` and `versions` of the node that trained; JSON-able."""


def run(
    job: Job,
    variant: Variant,
    folder: Path,
    cpus: int,
    gpu: bool,
    views: Views | None,
    callbacks: Iterable[Callback] = (),
) -> Result:
    """Trains, resuming from the checkpoint in `folder` if there is one. Raises what `Trainer.fit` raises.

    Args:
        cpus: threads of PyTorch.
        gpu: whether to train on the GPU.
        views: augmented views over which test predictions are averaged; None leaves test unused.
    """
    torch.set_num_threads(cpus)
    device = torch.device("cuda" if gpu else "cpu")
    store = FolderStore(folder) if views is None else TestEvaluator(folder, job, variant.test, device, views)
    progress = Trainer(job, variant.split, ProcessGroup(device), store, callbacks).fit()
    place = {"machine": machine(), "versions": versions()}
    with store.latest() as checkpoint:
        assert checkpoint is not None  # the last epoch's
        claims = _claims(job, progress, variant, read_group(checkpoint, "positions"))
        if not isinstance(store, TestEvaluator):
            return Result(progress, {}, np.empty(0, np.uint8), np.empty(0, np.uint8), claims, place)
        predicted = {name: store.predicted(checkpoint, name) for name in ("best", "last")}
    return Result(progress, store.seen(), predicted["best"], predicted["last"], claims, place)


def _claims(job: Job, progress: Progress, variant: Variant, positions: Mapping[str, Tensor]) -> dict[str, Any]:
    moments = {time: epoch / progress.epochs for time, epoch in progress.moments.items()}
    early_N2, late_N2 = (positions[moment].numpy() for moment in moments)
    return weight_claims(early_N2, late_N2, position_weight(job.config.loss.model_dump()), moments, variant.train_known)


class TestEvaluator(FolderStore):
    """Checkpoint store that measures the test split after each epoch, to show what best-on-test would have claimed.

    It only reads the checkpoints and adds its measurements to each: the training loop never sees the test split.
    """

    def __init__(self, folder: Path, job: Job, test: Samples, device: torch.device, views: Views) -> None:
        super().__init__(folder)
        self.test, self.views = test, views
        self.model: Classifier = job.build().to(device)

    def save(self, write: Callable[[Path], None] | None, row: dict[str, float]) -> None:
        assert write is not None  # there is only one worker
        before = self.seen()

        def write_and_look(folder: Path) -> None:
            write(folder)
            counts_CC = confusion(self.test.label_N, self.predicted(folder, "last"), len(self.test.classes))
            now = {"test_accuracy": float(accuracy(counts_CC)), "test_mean_accuracy": float(mean_accuracy(counts_CC))}
            write_json(folder / SEEN, {name: [*before.get(name, []), value] for name, value in now.items()})

        super().save(write_and_look, row)

    def predicted(self, checkpoint: Path, group: str) -> np.ndarray:
        """Class of each test row by the weights `best` or `last`, [N] uint8."""
        load_state(self.model, read_group(checkpoint, group), checkpoint)
        p_NC = predict(self.model, self.test.images_NHWC, self.views)
        return p_NC.argmax(1).astype(np.uint8)

    def seen(self) -> dict[str, list[float]]:
        """Metric -> one value per epoch."""
        with self.latest() as checkpoint:
            return {} if checkpoint is None else read_json(checkpoint / SEEN)
