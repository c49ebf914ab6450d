"""One run of a study, in its own process: training, and the measurements on the test split.

What this module imports is part of the fingerprint of unfinished runs (nla/study/scheduler.py), so it stays apart from
the code that schedules runs, and knows nothing of Ray and MLflow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from nla.data.samples import Samples
from nla.errors import DataError
from nla.evaluation.confusion import accuracy, confusion, mean_accuracy
from nla.evaluation.predict import Views, predict
from nla.evaluation.weight import position_weight
from nla.hardware import machine, versions
from nla.io import read_json_as, sha256, write_json
from nla.models.classifier import Classifier
from nla.models.saved_model import load_state, read_tensors, write_tensors
from nla.study.claims import weight_claims
from nla.study.record import Selection
from nla.study.variants import Variant
from nla.training.callbacks import Callback
from nla.training.checkpoint import Progress, read_group, read_progress
from nla.training.checkpoint_store import FolderStore
from nla.training.epoch_report import EpochReport
from nla.training.job import Job
from nla.training.process_group import ProcessGroup
from nla.training.trainer import Trainer

TEST_METRICS, TEST_P = "test.json", "test.safetensors"
"""Files in a checkpoint: metric -> one value per epoch; selected epoch -> probabilities of test, float32 [N, C]."""


@dataclass(frozen=True)
class Result:
    """Outcome of a run."""

    progress: Progress
    on_test: Mapping[str, list[float]]
    """test_accuracy and test_mean_accuracy of each epoch; {} if test was not measured."""
    epochs: Mapping[Selection, int]
    """The selected epochs, from 1."""
    p: Mapping[int, np.ndarray]
    """Selected epoch -> probabilities of test, float32 [N, C]; {} if test was not measured."""
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
    epochs = selected_epochs(progress, job.config.train.select)
    measured = store.measured() if isinstance(store, EvaluatingStore) else Measured({}, {})
    return Result(progress, measured.series, epochs, measured.p, claims, node)


def selected_epochs(progress: Progress, metric: str) -> dict[Selection, int]:
    """The epochs, from 1, that the validation metric selects by the labels as given and by the clean ones; the last.

    Of equals the first, as in training. Without clean labels, those given are clean.
    """
    clean = [row.get(f"clean_{metric}") for row in progress.history]
    by_clean = progress.best_epoch if None in clean else 1 + int(np.argmax(np.array(clean, float)))
    return {"given": progress.best_epoch, "clean": by_clean, "last": progress.epochs_done}


def _claims(job: Job, progress: Progress, variant: Variant, positions: Mapping[str, Tensor]) -> dict[str, Any]:
    moments = {time: epoch / progress.epochs for time, epoch in progress.moments.items()}
    early_N2, late_N2 = (positions[moment].numpy() for moment in moments)
    weight = position_weight(job.config.loss.model_dump())
    return weight_claims(early_N2, late_N2, weight, moments, variant.train_annotations)


class Measured(NamedTuple):
    """What is known of test after an epoch."""

    series: dict[str, list[float]]
    """Metric -> one value per epoch so far."""
    p: dict[int, np.ndarray]
    """Selected epoch -> probabilities, float32 [N, C]."""


class _TestMetrics(BaseModel):
    """Content of test.json, beside the files of a checkpoint."""

    series: dict[str, list[float]]
    sha256: str
    """Of the file with the probabilities."""


class EvaluatingStore(FolderStore):
    """Checkpoint store that measures the test split after each epoch, to show what best-on-test would have claimed.

    It only reads the checkpoints and adds its measurements to each: the training loop never sees the test split. It
    keeps the probabilities of the epochs that are selected so far, so that no further weights are kept for them.
    """

    def __init__(self, folder: Path, job: Job, test: Samples, device: torch.device, views: Views) -> None:
        super().__init__(folder)
        self.test, self.views, self.metric = test, views, job.config.train.select
        self.model: Classifier = job.build().to(device)

    def save(self, write: Callable[[Path], None] | None, report: EpochReport) -> None:
        """Saves the checkpoint together with its metrics on test."""
        assert write is not None  # there is only one worker
        before = self.measured()

        def write_and_measure(folder: Path) -> None:
            write(folder)
            p_NC = self._probabilities(folder)
            counts_CC = confusion(self.test.label_N, p_NC.argmax(1), len(self.test.classes))
            now = {"test_accuracy": float(accuracy(counts_CC)), "test_mean_accuracy": float(mean_accuracy(counts_CC))}
            series = {name: [*before.series.get(name, []), value] for name, value in now.items()}
            known = {**before.p, len(series["test_accuracy"]): p_NC}
            selected = selected_epochs(read_progress(folder), self.metric).values()
            kept = {str(epoch): torch.from_numpy(known[epoch]) for epoch in dict.fromkeys(selected)}
            write_tensors(folder / TEST_P, kept)
            write_json(folder / TEST_METRICS, {"series": series, "sha256": sha256(folder / TEST_P)}, sealed=True)

        super().save(write_and_measure, report)

    def _probabilities(self, checkpoint: Path) -> np.ndarray:
        """Probabilities of the test rows by the weights of the checkpoint's epoch, float32 [N, C]."""
        load_state(self.model, read_group(checkpoint, "last"), checkpoint)
        return predict(self.model, self.test.images_NHWC, self.views)

    def measured(self) -> Measured:
        """What is known so far, by the latest checkpoint."""
        remedy = f"Remove {self.folder}."
        with self.latest() as checkpoint:
            if checkpoint is None:
                return Measured({}, {})
            found = read_json_as(checkpoint / TEST_METRICS, _TestMetrics, remedy)
            if found.sha256 != sha256(checkpoint / TEST_P):
                what = f"the file is damaged (not the sha256 of {TEST_METRICS})"
                raise DataError(f"{checkpoint / TEST_P}: {what}. {remedy}")
            p = {int(epoch): p_NC.numpy() for epoch, p_NC in read_tensors(checkpoint / TEST_P, remedy).items()}
            return Measured(found.series, p)
