"""One run of a study, in its own process: training, and the measurements on the test split.

What this module imports is part of the fingerprint of unfinished runs (nla/study/scheduler.py), so it stays apart from
the code that schedules runs, and knows nothing of Ray and MLflow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nla.data.samples import Samples
from nla.evaluation.confusion import accuracy, confusion, mean_accuracy
from nla.evaluation.predict import Views, predict
from nla.evaluation.weight import position_weight
from nla.hardware import machine, versions
from nla.io import read_json_as, write_json
from nla.models.classifier import Classifier
from nla.models.saved_model import load_state
from nla.study.claims import weight_claims
from nla.study.variants import Variant
from nla.training.callbacks import Callback
from nla.training.checkpoint import Progress, read_group
from nla.training.checkpoint_store import FolderStore
from nla.training.epoch_report import EpochReport
from nla.training.job import Job
from nla.training.process_group import ProcessGroup
from nla.training.trainer import Trainer

TEST_METRICS = "test.json"
"""File in a checkpoint: metric -> one value per epoch."""


@dataclass(frozen=True)
class Result:
    """Outcome of a run."""

    progress: Progress
    on_test: Mapping[str, list[float]]
    """test_accuracy and test_mean_accuracy of each epoch; {} if test was not measured."""
    best_predicted: np.ndarray
    """Class of each test row by the epoch chosen on validation, [N] uint8; [0] if test was not measured."""
    last_predicted: np.ndarray
    """The same by the last epoch."""
    claims: Mapping[str, Any]
    """What the weights of the training samples show; JSON-serializable."""
    node: Mapping[str, Any]
    """`machine` and `versions` of the node that trained; JSON-serializable."""


def run_job(
    job: Job,
    variant: Variant,
    folder: Path,
    cpus: int,
    gpu: bool,
    views: Views | None,
    callbacks: Iterable[Callback] = (),
) -> Result:
    """Trains and measures, resuming from the checkpoint in `folder` if there is one. Raises what `Trainer.fit` raises.

    Args:
        cpus: threads of PyTorch.
        gpu: whether to train on the GPU.
        views: augmented views over which test predictions are averaged; None leaves test unused.
    """
    torch.set_num_threads(cpus)
    device = torch.device("cuda" if gpu else "cpu")
    store = FolderStore(folder) if views is None else EvaluatingStore(folder, job, variant.test, device, views)
    progress = Trainer(job, variant.split, ProcessGroup(device), store, callbacks).fit()
    node = {"machine": machine(), "versions": versions()}
    with store.latest() as checkpoint:
        assert checkpoint is not None  # the last epoch's
        claims = _claims(job, progress, variant, read_group(checkpoint, "positions"))
        if not isinstance(store, EvaluatingStore):
            return Result(progress, {}, np.empty(0, np.uint8), np.empty(0, np.uint8), claims, node)
        predicted = {name: store.predicted(checkpoint, name) for name in ("best", "last")}
    return Result(progress, store.measured(), predicted["best"], predicted["last"], claims, node)


def _claims(job: Job, progress: Progress, variant: Variant, positions: Mapping[str, Tensor]) -> dict[str, Any]:
    moments = {time: epoch / progress.epochs for time, epoch in progress.moments.items()}
    early_N2, late_N2 = (positions[moment].numpy() for moment in moments)
    weight = position_weight(job.config.loss.model_dump())
    return weight_claims(early_N2, late_N2, weight, moments, variant.train_annotations)


class EvaluatingStore(FolderStore):
    """Checkpoint store that measures the test split after each epoch, to show what best-on-test would have claimed.

    It only reads the checkpoints and adds its measurements to each: the training loop never sees the test split.
    """

    def __init__(self, folder: Path, job: Job, test: Samples, device: torch.device, views: Views) -> None:
        super().__init__(folder)
        self.test, self.views = test, views
        self.model: Classifier = job.build().to(device)

    def save(self, write: Callable[[Path], None] | None, report: EpochReport) -> None:
        """Saves the checkpoint together with its metrics on test."""
        assert write is not None  # there is only one worker
        before = self.measured()

        def write_and_measure(folder: Path) -> None:
            write(folder)
            counts_CC = confusion(self.test.label_N, self.predicted(folder, "last"), len(self.test.classes))
            now = {"test_accuracy": float(accuracy(counts_CC)), "test_mean_accuracy": float(mean_accuracy(counts_CC))}
            write_json(folder / TEST_METRICS, {name: [*before.get(name, []), value] for name, value in now.items()})

        super().save(write_and_measure, report)

    def predicted(self, checkpoint: Path, group: str) -> np.ndarray:
        """Class of each test row by the weights `best` or `last`, [N] uint8."""
        load_state(self.model, read_group(checkpoint, group), checkpoint)
        p_NC = predict(self.model, self.test.images_NHWC, self.views)
        return p_NC.argmax(1).astype(np.uint8)

    def measured(self) -> dict[str, list[float]]:
        """Metric -> one value per epoch so far."""
        with self.latest() as checkpoint:
            if checkpoint is None:
                return {}
            return read_json_as(checkpoint / TEST_METRICS, dict[str, list[float]], f"Remove {self.folder}.")
