"""The two tables that training sees, as `prepare` wrote them: their samples, and by what they are told from others.

The training loop in this very process: no Ray starts, and no other process.

The bar of a training: images a second, time left, and a line an epoch.

A finished training's checkpoint -> the files that outlive it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nla.config.ray import RayConfig
from nla.console import bar, say
from nla.data.positions_table import PositionsTable, write_positions
from nla.data.samples import load_samples
from nla.data.schema import TableInfo, read_info
from nla.errors import TrainingError
from nla.hardware import cores
from nla.io import sha256
from nla.models.card import save_model
from nla.training.callbacks import Callback
from nla.training.checkpoint import FolderStore, read_group, read_progress
from nla.training.job import Job
from nla.training.process_group import ProcessGroup
from nla.training.trainer import Split, train
from nla.workflow.runs import IMAGES

TRAIN, VALID = Path("data/train.parquet"), Path("data/valid.parquet")


@dataclass(frozen=True)
class Tables:
    """Both, read."""

    split: Split
    info: TableInfo
    """Of train."""
    hashes: tuple[str, str]
    """SHA-256 of both files."""

    @property
    def data_hash(self) -> str:
        """Of both, short enough for a tag."""
        return "-".join(sha[:16] for sha in self.hashes)


def read_tables(config: RayConfig, root: Path) -> Tables:
    """Both tables of the working directory; images beyond `config.image_bytes` are mapped from below `root`."""
    train, valid = (load_samples(path, config.image_bytes, root / IMAGES) for path in (TRAIN, VALID))
    return Tables(Split(train, valid), read_info(TRAIN), (sha256(TRAIN), sha256(VALID)))


def train_local(job: Job, split: Split, config: RayConfig, folder: Path, observer: Callback) -> Path:
    """Trains `job`, going on from its checkpoint in `folder`; gives the folder of the last checkpoint.

    Raises TrainingError where a GPU is asked for and none is there, and what the loop and the observer raise.
    """
    store = FolderStore(folder)
    torch.set_num_threads(config.cpus_per_worker or cores())
    train(job, split, ProcessGroup(_device(config)), store, observer)
    with store.latest() as checkpoint:
        assert checkpoint is not None  # the last epoch's
        return checkpoint


def _device(config: RayConfig) -> torch.device:
    there = torch.cuda.is_available()
    if config.use_gpu and not there:
        raise TrainingError("ray.use_gpu is true, but PyTorch finds no GPU: set it to null or false")
    return torch.device("cuda" if there and config.use_gpu is not False else "cpu")


class ProgressBar:
    """An observer that draws."""

    def __init__(self, epochs: int, update: Callable[[int, int], None]) -> None:
        self.epochs, self.update = epochs, update

    def step(self, epoch: int, step: int, steps: int, images: int) -> None:
        """Moves the bar."""
        self.update((epoch * steps + step) * images, self.epochs * steps * images)

    def epoch(self, row: dict[str, float]) -> None:
        """Says how the epoch went."""
        say(
            f"epoch {int(row['epoch']):3d}/{self.epochs}  loss {row['train_loss']:.4f}  "
            f"valid accuracy {row['valid_accuracy']:.2%}, mean {row['valid_mean_accuracy']:.2%}  "
            f"{row['images_per_second']:,.0f} images/s"
        )


@contextlib.contextmanager
def training_bar(epochs: int) -> Iterator[ProgressBar]:
    """A bar over all epochs."""
    with bar("train", "images") as update:
        yield ProgressBar(epochs, update)


def export(result: Path, models: Path, card: Mapping[str, Any], row_N: np.ndarray) -> None:
    """Writes the two models and the positions of the training samples.

    model.safetensors + .json    the epoch that validation chose
    last.safetensors + .json     the last epoch
    positions.parquet            (p_GT, p_NN) of every training row, early and late

    Args:
        result: folder of the last checkpoint.
        card: what the cards hold beside epoch and metrics.
        row_N: row in `faces` of each training sample.
    """
    progress = read_progress(result)
    for stem, group, epoch in (("model", "best", progress.best_epoch), ("last", "last", progress.epochs_done)):
        chosen = {"selected": group, "epoch": epoch, "metrics": progress.history[epoch - 1], "facts": progress.facts}
        save_model(models / f"{stem}.safetensors", read_group(result, group), {**card, **chosen})
    positions = {moment: tensor.numpy() for moment, tensor in read_group(result, "positions").items()}
    table = PositionsTable(row_N, positions, progress.moments, progress.epochs)
    write_positions(models / "positions.parquet", table)
