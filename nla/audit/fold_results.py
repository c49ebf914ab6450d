"""Runs the folds that have no result yet, one after the other in this process, and keeps the result of each.

RUN/fold-K/         checkpoints of an unfinished fold, from which it resumes
RUN/folds/K/        probabilities of a finished one
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from nla.audit.fold import RECORD, AuditData, FoldProbabilities, read_probabilities, run_fold, write_probabilities
from nla.config.ray import RayConfig
from nla.console import bar
from nla.hardware import cores
from nla.training.callbacks import Callback
from nla.training.job import Job
from nla.training.local_training import local_device

REMEDY = "Remove {folder}, and run it again."
RunMissing = Callable[[Job, AuditData, Mapping[int, Path]], Iterator[tuple[int, FoldProbabilities]]]
"""(job, data, folder of the checkpoints of each fold) -> each fold with its result, as they end."""


def fold_results(job: Job, data: AuditData, run: Path, run_missing: RunMissing) -> list[FoldProbabilities]:
    """The probabilities of each fold, those of finished ones from files in the folder `run`.

    Raises:
        NLAError: a fold failed, or a file is damaged.
    """
    done = {fold: run / f"folds/{fold}" for fold in range(int(data.fold_N.max()) + 1)}
    missing = {fold: run / f"fold-{fold}" for fold, folder in done.items() if not (folder / RECORD).is_file()}
    if missing:
        for fold, probabilities in run_missing(job, data, missing):
            done[fold].mkdir(parents=True, exist_ok=True)
            write_probabilities(done[fold], probabilities)
            shutil.rmtree(missing[fold], ignore_errors=True)  # if it ran on this machine
    return [read_probabilities(folder, REMEDY.format(folder=folder)) for folder in done.values()]


def in_this_process(config: RayConfig) -> RunMissing:
    """Runs the folds here, with a bar over all their steps. Raises what `local_device` raises, and then `run_fold`."""
    gpu, cpus = local_device(config).type == "cuda", config.cpus_per_worker or cores()

    def run_missing(job: Job, data: AuditData, missing: Mapping[int, Path]) -> Iterator[tuple[int, FoldProbabilities]]:
        with bar("audit", "images") as update:
            for number, (fold, folder) in enumerate(missing.items()):
                steps = StepsOfFolds(number, len(missing), job.config.train.epochs, update)
                yield fold, run_fold(job, data, fold, folder, cpus, gpu, [steps])

    return run_missing


class StepsOfFolds(Callback):
    """Moves a bar over all folds.

    Args:
        number: of this fold among those that run, from 0.
        folds: how many run.
        epochs: of each.
        update: called with the numbers of images done and in all.
    """

    def __init__(self, number: int, folds: int, epochs: int, update: Callable[[int, int], None]) -> None:
        self.before, self.total, self.update = number * epochs, folds * epochs, update

    def on_step_end(self, epoch: int, step: int, steps: int, images: int) -> None:
        """Moves the bar."""
        self.update(((self.before + epoch) * steps + step) * images, self.total * steps * images)


def probabilities_of_splits(results: list[FoldProbabilities], fold_N: np.ndarray, rows: list[int]) -> list[np.ndarray]:
    """Probabilities [E, N, C] of the training rows, by the models that have not seen them; then those of the others.

    Args:
        results: of each fold.
        fold_N: fold of each training row.
        rows: number of rows of each other split, for which the mean over all models is returned.
    """
    epochs, _, classes = results[0].held_ENC.shape
    train_ENC = np.empty((epochs, len(fold_N), classes), np.float32)
    for fold, result in enumerate(results):
        train_ENC[:, fold_N == fold] = result.held_ENC
    others_EMC = np.mean([result.others_EMC for result in results], axis=0, dtype=np.float32)
    return [train_ENC, *np.split(others_EMC, np.cumsum(rows)[:-1], axis=1)] if rows else [train_ENC]
