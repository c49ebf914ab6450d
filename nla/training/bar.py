"""The bar of a training: images a second, time left, and a line an epoch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from nla.console import bar, say


class BarObserver:
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
def training_bar(epochs: int) -> Iterator[BarObserver]:
    """A bar over all epochs."""
    with bar("train", "images") as update:
        yield BarObserver(epochs, update)
