"""Figure of the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nla.evaluation import counts
from nla.pictures import BLUES, INK, MUTED, headline, on_split, percent, percent_axis, short, styled

LARGEST_WITH_TEXT = 16  # classes; with more, a cell is too small to read


@styled
def confusion_matrix(counts_CC: np.ndarray, classes: Sequence[str], split: str = "test") -> Figure:
    """Confusion matrix counts_CC[actual, predicted]: proportion of the row, and the count, in each cell."""
    size = len(classes)
    share_CC = counts_CC / np.maximum(counts.support(counts_CC)[:, None], 1)
    figure = Figure(
        figsize=(np.clip(2.2 + 0.7 * size, 7.8, 14), np.clip(2.2 + 0.6 * size, 4.2, 12.5)), layout="constrained"
    )
    axes = figure.add_subplot()
    image = axes.imshow(share_CC, cmap=BLUES, vmin=0, vmax=1, aspect="auto")
    meaning = "colour"
    if size <= LARGEST_WITH_TEXT:
        _write_cells(axes, counts_CC, share_CC)
        meaning = "colour and upper number"
    else:
        percent_axis(figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02, aspect=40).ax.yaxis)
    _name_axes(axes, classes)
    headline(
        axes,
        _finding(counts_CC, share_CC, classes),
        f"{on_split(int(counts_CC.sum()), split)}; {meaning}: % of the row",
    )
    return figure


def _write_cells(axes: Axes, counts_CC: np.ndarray, share_CC: np.ndarray) -> None:
    for row, column in zip(*np.nonzero(counts_CC), strict=True):
        share = share_CC[row, column]
        strong, quiet = ("white", "white") if share > 0.45 else (INK, INK if share > 0.25 else MUTED)
        place: dict[str, Any] = {"xy": (column, row), "textcoords": "offset points", "ha": "center"}
        weight = "bold" if row == column else "normal"
        text = f"{100 * share:.0f}" if share >= 0.005 else "<1"
        axes.annotate(text, xytext=(0, 0), va="bottom", color=strong, fontsize=10.5, fontweight=weight, **place)
        text = f"{counts_CC[row, column]:,}"
        axes.annotate(text, xytext=(0, -4), va="top", color=quiet, fontsize=7.5, fontweight=weight, **place)


def _name_axes(axes: Axes, classes: Sequence[str]) -> None:
    size = len(classes)
    names = [short(name) for name in classes]
    axes.set_xticks(range(size), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), names)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("given class")


def _finding(counts_CC: np.ndarray, share_CC: np.ndarray, classes: Sequence[str]) -> str:
    right = f"{percent(float(counts.accuracy(counts_CC)))} right"
    wrong_CC = share_CC * ~np.eye(len(classes), dtype=bool)
    if not wrong_CC.any():
        return f"{right}, nothing is confused"
    actual, taken = divmod(int(wrong_CC.argmax()), len(classes))
    return f"{right}; most confused: {short(classes[actual], 11)} as {short(classes[taken], 11)}"
