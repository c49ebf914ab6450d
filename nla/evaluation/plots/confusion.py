"""Figures of the errors by class: the confusion matrix, and the recall of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nla.evaluation.confusion import accuracy, support
from nla.plotting import BLUE, BLUES, INK, MUTED, headline, on_split, percent, percent_axis, short, styled

LARGEST_WITH_TEXT = 16  # classes; with more, a cell is too small to read


@styled
def confusion_matrix(counts_CC: np.ndarray, classes: Sequence[str], split: str = "test") -> Figure:
    """Confusion matrix counts_CC[actual, predicted]: proportion of the row, and the count, in each cell."""
    size = len(classes)
    share_CC = counts_CC / np.maximum(support(counts_CC)[:, None], 1)
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
        strong, faint = ("white", "white") if share > 0.45 else (INK, INK if share > 0.25 else MUTED)
        options: dict[str, Any] = {"xy": (column, row), "textcoords": "offset points", "ha": "center"}
        weight = "bold" if row == column else "normal"
        text = f"{100 * share:.0f}" if share >= 0.005 else "<1"
        axes.annotate(text, xytext=(0, 0), va="bottom", color=strong, fontsize=10.5, fontweight=weight, **options)
        text = f"{counts_CC[row, column]:,}"
        axes.annotate(text, xytext=(0, -4), va="top", color=faint, fontsize=7.5, fontweight=weight, **options)


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
    right = f"{percent(float(accuracy(counts_CC)))} right"
    wrong_CC = share_CC * ~np.eye(len(classes), dtype=bool)
    if not wrong_CC.any():
        return f"{right}, nothing is confused"
    actual, taken = divmod(int(wrong_CC.argmax()), len(classes))
    return f"{right}; most confused: {short(classes[actual], 11)} as {short(classes[taken], 11)}"


@styled
def recall_bars(per_class: Mapping[str, Mapping[str, float]], split: str = "test") -> Figure:
    """Recall with its 95 % interval and the number of faces of each class, best first; the line marks their mean.

    `per_class` is the part `classes` of nla.evaluation.metrics.measure.
    """
    names = sorted(per_class, key=lambda name: per_class[name]["recall"], reverse=True)
    recall, low, high, rows_C = (
        np.array([per_class[name][key] for name in names]) for key in ("recall", "recall_low", "recall_high", "support")
    )
    mean = float(recall.mean())
    figure = Figure(figsize=(7.5, 1.9 + 0.4 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    rows = np.arange(len(names))
    axes.barh(rows, recall, height=0.62, color=BLUE, alpha=0.85)
    axes.errorbar(recall, rows, xerr=[recall - low, high - recall], fmt="none", ecolor=INK, elinewidth=1.1, capsize=3)
    axes.axvline(mean, color=MUTED, lw=1.2, ls=(0, (4, 3)))
    axes.invert_yaxis()
    axes.set_yticks(rows, [short(name) for name in names])
    axes.set(xlim=(0, 1.0), xlabel="recall, with its 95 % interval; dashed: mean of the classes")
    percent_axis(axes.xaxis)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    for row, faces in enumerate(rows_C):
        axes.annotate(f"{percent(recall[row], 0)} of {int(faces):,}", (1.02, row), va="center", annotation_clip=False)
    headline(axes, _recall_finding(names, recall, mean), on_split(int(rows_C.sum()), split))
    return figure


def _recall_finding(names: list[str], recall: np.ndarray, mean: float) -> str:
    head = f"Mean accuracy {percent(mean)}"
    return f"{head}: best {short(names[0])}, worst {short(names[-1])}" if recall[0] > recall[-1] else head
