"""One fold: a model is trained on the rows of the others, and scores its own rows after each epoch.

What this module imports is part of the fingerprint of the audit, so it stays apart from scores, tables and display, and
knows nothing of Ray and MLflow.

The model is trained by the ordinary loop for a fixed number of epochs, on labels alone: distributions and votes are
left out. The loop measures some held-out rows after each epoch, which can only end a run that diverges.

Legend: E epochs; N held-out rows; M rows of other splits; C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel

from nla.data.samples import Samples
from nla.errors import DataError
from nla.evaluation.predict import ONE_VIEW, predict
from nla.hardware import use_bf16
from nla.io import read_json_as, sha256, write_json
from nla.models.classifier import Classifier
from nla.models.saved_model import load_state, read_tensors, write_tensors
from nla.training.callbacks import Callback
from nla.training.checkpoint import read_group
from nla.training.checkpoint_store import FolderStore
from nla.training.epoch_report import EpochReport
from nla.training.job import Job
from nla.training.process_group import ProcessGroup
from nla.training.trainer import Split, Trainer

MEASURED = 256
"""Held-out rows that the loop measures after each epoch."""
PROBABILITIES, RECORD = "probabilities.safetensors", "probabilities.json"
"""Files of a fold, beside those of its checkpoints: the probabilities of each epoch so far, and their hash."""
HELD, OTHERS = "held", "others"


@dataclass(frozen=True)
class AuditData:
    """What all folds share."""

    train: Samples
    fold_N: np.ndarray
    """Fold of each training row, int64."""
    others: tuple[np.ndarray, ...]
    """Images of the other splits that are scored, each uint8 [M, H, W, C]."""


@dataclass(frozen=True)
class FoldProbabilities:
    """Probabilities after each epoch, of the image in even epochs (from 0), and of its mirror image in odd ones."""

    held_ENC: np.ndarray
    """Of the held-out rows, in the order of the table, float32."""
    others_EMC: np.ndarray
    """Of the rows of all other splits, one after the other, float32."""

    @property
    def epochs(self) -> int:
        """Number of epochs that are done."""
        return len(self.held_ENC)


def run_fold(
    job: Job, data: AuditData, fold: int, folder: Path, cpus: int, gpu: bool, callbacks: Iterable[Callback] = ()
) -> FoldProbabilities:
    """Trains and scores a fold, resuming from the checkpoint in `folder` if there is one.

    Args:
        job: its epochs are those of the fold, and its patience is 0.
        data: all rows and folds.
        fold: the fold that is held out, from 0.
        folder: folder of the checkpoints.
        cpus: threads of PyTorch.
        gpu: whether to train on the GPU.
        callbacks: called by the loop.

    Raises:
        NLAError: what `Trainer.fit` raises.
    """
    torch.set_num_threads(cpus)
    device = torch.device("cuda" if gpu else "cpu")
    held_N = np.flatnonzero(data.fold_N == fold)
    images = (data.train.images_NHWC[held_N], *data.others)
    store = ScoringStore(folder, job, images, device)
    split = Split(_labelled(data.train, np.flatnonzero(data.fold_N != fold)), _labelled(data.train, held_N[:MEASURED]))
    Trainer(job, split, ProcessGroup(device), store, callbacks).fit()
    return store.probabilities()


def _labelled(samples: Samples, row_M: np.ndarray) -> Samples:
    """Some rows, with their labels as the only targets."""
    return replace(
        samples,
        images_NHWC=samples.images_NHWC[row_M],
        label_N=samples.label_N[row_M],
        target_NC=None,
        row_N=samples.row_N[row_M],
    )


class _Record(BaseModel):
    """Content of RECORD."""

    sha256: str
    """Of the file with the probabilities."""


class ScoringStore(FolderStore):
    """Checkpoint store that scores images by the weights of each epoch, one view of each image.

    Even epochs see the image, odd ones its mirror image: the mean over an even number of epochs is that over both views
    at half the price. It only reads the checkpoints and adds its probabilities to each.
    """

    def __init__(self, folder: Path, job: Job, images: tuple[np.ndarray, ...], device: torch.device) -> None:
        super().__init__(folder)
        self.images = images
        self.bf16 = use_bf16(job.config.train.precision, device)
        self.model: Classifier = job.build().to(device)

    def save(self, write: Callable[[Path], None] | None, report: EpochReport) -> None:
        """Saves the checkpoint together with the probabilities of all epochs so far."""
        assert write is not None  # there is only one worker
        before = [] if report.row["epoch"] == 1 else [self.probabilities()]

        def write_and_score(folder: Path) -> None:
            write(folder)
            load_state(self.model, read_group(folder, "last"), folder)
            write_probabilities(folder, _joined(before, self._scored(mirrored=report.row["epoch"] % 2 == 0)))

        super().save(write_and_score, report)

    def _scored(self, mirrored: bool) -> FoldProbabilities:
        """Those of one epoch."""
        views = (images[:, :, ::-1] if mirrored else images for images in self.images)
        held_NC, *others = (predict(self.model, images, ONE_VIEW, bf16=self.bf16) for images in views)
        others_MC = np.concatenate([held_NC[:0], *others])
        return FoldProbabilities(held_NC[None], others_MC[None])

    def probabilities(self) -> FoldProbabilities:
        """Those of all epochs of the latest checkpoint. Raises DataError if they are damaged."""
        with self.latest() as checkpoint:
            assert checkpoint is not None  # that of an epoch that has ended
            return read_probabilities(checkpoint, f"Remove {self.folder}, and run it again.")


def _joined(before: list[FoldProbabilities], now: FoldProbabilities) -> FoldProbabilities:
    parts = [*before, now]
    held, others = [part.held_ENC for part in parts], [part.others_EMC for part in parts]
    return FoldProbabilities(np.concatenate(held), np.concatenate(others))


def write_probabilities(folder: Path, probabilities: FoldProbabilities) -> None:
    """Writes PROBABILITIES, then RECORD, into `folder`: without the latter, the former is incomplete."""
    tensors = {HELD: probabilities.held_ENC, OTHERS: probabilities.others_EMC}
    write_tensors(folder / PROBABILITIES, {name: torch.from_numpy(p) for name, p in tensors.items()})
    write_json(folder / RECORD, {"sha256": sha256(folder / PROBABILITIES)}, sealed=True)


def read_probabilities(folder: Path, remedy: str) -> FoldProbabilities:
    """The inverse of `write_probabilities`. Raises NLAError, with `remedy`, if they are missing or damaged."""
    record, file = read_json_as(folder / RECORD, _Record, remedy), folder / PROBABILITIES
    tensors = read_tensors(file, remedy)
    if record.sha256 != sha256(file) or tensors.keys() != {HELD, OTHERS}:
        raise DataError(f"{file}: the file is damaged (not the sha256 of {RECORD}). {remedy}")
    return FoldProbabilities(tensors[HELD].numpy(), tensors[OTHERS].numpy())
