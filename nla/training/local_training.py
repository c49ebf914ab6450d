"""Training in this process, without Ray; and the progress of any run on the console."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from nla.config.ray import RayConfig
from nla.console import bar, say
from nla.errors import TrainingError
from nla.hardware import cores
from nla.training.callbacks import Callback
from nla.training.checkpoint_store import FolderStore
from nla.training.job import Job
from nla.training.process_group import ProcessGroup
from nla.training.trainer import Split, Trainer


def train_local(job: Job, split: Split, config: RayConfig, folder: Path, callbacks: Iterable[Callback] = ()) -> Path:
    """Trains `job`, resuming from its checkpoint in `folder`; returns the folder of the last checkpoint.

    Raises:
        TrainingError: `ray.use_gpu` is true, but there is no GPU; and see `Trainer.fit`.
    """
    store = FolderStore(folder)
    torch.set_num_threads(config.cpus_per_worker or cores())
    Trainer(job, split, ProcessGroup(_device(config)), store, callbacks).fit()
    with store.latest() as checkpoint:
        assert checkpoint is not None  # that of the last epoch
        return checkpoint


def _device(config: RayConfig) -> torch.device:
    available = torch.cuda.is_available()
    if config.use_gpu and not available:
        raise TrainingError("ray.use_gpu is true, but PyTorch finds no GPU. Set it to null or false.")
    return torch.device("cuda" if available and config.use_gpu is not False else "cpu")


class ProgressBar(Callback):
    """Moves a bar over all epochs, and prints a line for each.

    Args:
        epochs: planned number.
        update: called with the numbers of images done and in all.
    """

    def __init__(self, epochs: int, update: Callable[[int, int], None]) -> None:
        self.epochs, self.update = epochs, update

    def on_step_end(self, epoch: int, step: int, steps: int, images: int) -> None:
        """Moves the bar."""
        self.update((epoch * steps + step) * images, self.epochs * steps * images)

    def on_epoch_end(self, row: dict[str, float]) -> None:
        """Prints loss, accuracy and speed of the epoch."""
        say(
            f"epoch {int(row['epoch']):3d}/{self.epochs}  loss {row['train_loss']:.4f}  "
            f"valid accuracy {row['valid_accuracy']:.2%}, mean class accuracy {row['valid_mean_accuracy']:.2%}  "
            f"{row['images_per_second']:,.0f} images/s"
        )


@contextlib.contextmanager
def progress_bar(epochs: int) -> Iterator[ProgressBar]:
    """Shows a bar while the context lasts; yields the callback that moves it."""
    with bar("train", "images") as update:
        yield ProgressBar(epochs, update)
