"""One trial: the training loop in the trial's own process, reporting epochs to Ray Tune."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune
from torch import Tensor

from nla.config.train import METRICS
from nla.config.tune import Distribution
from nla.errors import is_explained, user_message
from nla.models.classifier import ImageSpec
from nla.training.checkpoint_store import Warn, local_folder
from nla.training.epoch_report import IS_LAST, KEPT, VALID, EpochReport
from nla.training.job import Job, training_config
from nla.training.process_group import ProcessGroup
from nla.training.trainer import Split, Trainer
from nla.tuning.space import Values, active, with_values

FAILED = "failed"
"""Key of a report that says why a trial failed; its metrics are 0."""


@dataclass(frozen=True)
class Template:
    """The part of a job that all trials of a search share."""

    params: Mapping[str, Any]
    """Validated sections that training depends on, with the seed and number of epochs of each trial."""
    num_classes: int
    image: ImageSpec
    fingerprint: str
    """Identifies the search: parameters that are not searched, space, data and code."""
    first_weights: Mapping[str, Tensor] | None = None
    """Initial tensors of the backbone; missing tensors, or all if None, are initialised from the seed."""

    def job(self, values: Values) -> Job:
        """The training job of a trial with these values."""
        return Job(
            training_config(with_values(self.params, values)),
            num_classes=self.num_classes,
            image=self.image,
            fingerprint=self.fingerprint,
            first_weights=self.first_weights,
        )


def run_trial(
    config: dict[str, Any], template: Template, split: Split, space: Mapping[str, Distribution], cpus: int, gpu: bool
) -> None:
    """The trainable of Ray Tune; called again with the last checkpoint if the process or its node was lost.

    A run that diverges, or whose parameters are invalid, is reported as failed: a retry would end the same way.

    Args:
        config: dotted names -> values; parameters whose conditions do not hold are dropped.
        cpus: number of PyTorch threads.
        gpu: whether Ray has assigned the trial a GPU, or a fraction of one.
    """
    torch.set_num_threads(cpus)
    device = torch.device("cuda" if gpu else "cpu")  # a trial without a GPU would still see all of them
    try:
        job = template.job(active(config, space, template.params))
        Trainer(job, split, ProcessGroup(device), _TuneStore()).fit()
    except Exception as error:
        if not is_explained(error):
            raise
        report_failure(error)


def report_failure(error: Exception) -> None:
    """Reports to Ray Tune why the trial failed, with the worst possible metrics."""
    worst = {f"{prefix}{name}": 0.0 for prefix in (VALID, KEPT) for name in METRICS}
    tune.report({FAILED: user_message(error), **worst, "epoch": 0, IS_LAST: True})


class _TuneStore:
    """Checkpoint store backed by Ray Tune's storage."""

    def latest(self, warn: Warn) -> AbstractContextManager[Path | None]:
        return local_folder(tune.get_checkpoint(), warn)

    def save(self, write: Callable[[Path], None] | None, report: EpochReport) -> None:
        assert write is not None  # a trial is a single process
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            tune.report(report.metrics, checkpoint=tune.Checkpoint.from_directory(folder))
