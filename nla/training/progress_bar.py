"""The progress of a run on the console: a bar over all epochs, and a line for each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from nla.console import bar, say
from nla.training.callbacks import Callback


class ProgressBar(Callback):
    """Moves a bar over all epochs, and prints a line for each.

    Args:
        epochs: planned number.
        update: called with the numbers of samples done and in all.
        samples: what they are called.
    """

    def __init__(self, epochs: int, update: Callable[[int, int], None], samples: str = "images") -> None:
        self.epochs, self.update, self.samples = epochs, update, samples

    def on_step_end(self, epoch: int, step: int, steps: int, images: int) -> None:
        """Moves the bar."""
        self.update((epoch * steps + step) * images, self.epochs * steps * images)

    def on_epoch_end(self, row: dict[str, float]) -> None:
        """Prints loss, accuracy and speed of the epoch."""
        say(
            f"epoch {int(row['epoch']):3d}/{self.epochs}  loss {row['train_loss']:.4f}  "
            f"valid accuracy {row['valid_accuracy']:.2%}, mean class accuracy {row['valid_mean_accuracy']:.2%}, "
            f"macro-F1 {row['valid_macro_f1']:.4f}  "
            f"{row['images_per_second']:,.0f} {self.samples}/s"
        )


@contextlib.contextmanager
def progress_bar(epochs: int, samples: str = "images") -> Iterator[ProgressBar]:
    """Shows a bar while the context lasts; yields the callback that moves it."""
    with bar("train", samples) as update:
        yield ProgressBar(epochs, update, samples)
