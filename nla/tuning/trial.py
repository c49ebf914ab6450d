"""One trial: the training loop in the trial's own process, its epochs told to Ray Tune."""

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

from nla.config.tune import Distribution
from nla.errors import NLAError
from nla.models.classifier import ImageSpec
from nla.training.job import Job
from nla.training.loop import Split, train
from nla.training.observer import Silent
from nla.training.sections import training_sections
from nla.training.store import fetched
from nla.training.workers import Workers
from nla.tuning.space import Values, active, with_values

FAILED = "failed"
"""Key of a report that says why a trial cannot go on; its objective is the worst there is."""


@dataclass(frozen=True)
class Template:
    """What all trials of a search have in common."""

    params: Mapping[str, Any]
    """Checked sections that a training depends on, with the seed and the epochs of a trial."""
    num_classes: int
    image: ImageSpec
    fingerprint: str
    """Of the search: parameters beside the searched ones, space, data and code."""
    first_weights: Mapping[str, Tensor] | None = None
    """Tensors of the backbone to start from; what is not among them, and None, starts as the seed says."""

    def job(self, values: Values) -> Job:
        """The training of one trial."""
        sections = training_sections(with_values(self.params, values))
        return Job(
            *sections,
            num_classes=self.num_classes,
            image=self.image,
            fingerprint=self.fingerprint,
            first_weights=self.first_weights,
        )


def run_trial(
    config: dict[str, Any], template: Template, split: Split, space: Mapping[str, Distribution], cpus: int, gpu: bool
) -> None:
    """What Ray Tune calls, again with the last checkpoint where the process or its node was lost.

    Args:
        config: dotted names -> values; those whose conditions do not hold are left out.
        cpus: threads of PyTorch.
        gpu: whether Ray has shared one out to the trial, wholly or in part.

    A training that diverges or refuses its parameters is told of and ends: a repetition would only end so again.
    """
    torch.set_num_threads(cpus)
    device = torch.device("cuda" if gpu else "cpu")  # a trial that has none would see all
    try:
        train(template.job(active(config, space, template.params)), split, Workers(device), _TuneStore(), Silent())
    except NLAError as error:
        report_failure(error)


def report_failure(error: NLAError) -> None:
    """Tells Ray Tune why the trial ends, with the worst of all scores."""
    tune.report({FAILED: str(error), "valid_accuracy": 0.0, "valid_mean_accuracy": 0.0, "epoch": 0})


class _TuneStore:
    """Checkpoints in Ray Tune's storage."""

    def latest(self) -> AbstractContextManager[Path | None]:
        return fetched(tune.get_checkpoint())

    def save(self, write: Callable[[Path], None] | None, row: dict[str, float]) -> None:
        assert write is not None  # a trial is its own first worker
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            tune.report(row, checkpoint=tune.Checkpoint.from_directory(folder))
