"""Training curves by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nla.plotting import BLUE, GREEN, MUTED, VERMILLION, percent, percent_axis, styled

Epochs = Sequence[Mapping[str, Any]]

LOSSES = {"train_loss": ("training objective", VERMILLION, "-"), "valid_nll": ("validation NLL", BLUE, "-")}
ACCURACIES = {"valid_accuracy": ("overall", BLUE, "-"), "valid_mean_accuracy": ("mean of classes", GREEN, "--")}
"""Label, colour and style; the two accuracies coincide if classes are balanced."""


@styled
def training_curves(epochs: Epochs, selected: int | None = None) -> Figure:
    """Losses and validation accuracies against `epoch`, with the `selected` epoch marked.

    Each row has `epoch` and any of train_loss, valid_nll, valid_accuracy and valid_mean_accuracy; missing values are
    not drawn.
    """
    figure = Figure(figsize=(9.0, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_panel(left, epochs, LOSSES, selected)
    _draw_panel(right, epochs, ACCURACIES, selected)
    left.set(title="what is minimised, and validation NLL", ylim=(0, None))
    right.set(title="validation faces that are right")
    percent_axis(right.yaxis)
    figure.suptitle(_finding(epochs, selected), x=0.015, ha="left", fontsize=12, fontweight="bold")
    return figure


def _draw_panel(axes: Axes, epochs: Epochs, lines: Mapping[str, tuple[str, str, str]], selected: int | None) -> None:
    for column, (name, color, style) in lines.items():
        points = np.array([(row["epoch"], row[column]) for row in epochs if _is_number(row.get(column))], float)
        if not len(points):
            continue
        # a single epoch has no line yet
        axes.plot(*points.T, color=color, label=name, ls=style, marker="o", markersize=3 if len(points) > 1 else 6)
        chosen = points[points[:, 0] == selected]
        axes.plot(*chosen.T, color=color, marker="o", ms=8, mec="white", mew=1.5, ls="none", zorder=4)
    if selected is not None:
        axes.axvline(selected, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1, label="selected epoch")
    if epochs:  # half an epoch of margin, also around a single one
        axes.set_xlim(epochs[0]["epoch"] - 0.5, epochs[-1]["epoch"] + 0.5)
    axes.margins(y=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
    axes.grid(axis="y")
    if axes.lines:
        axes.legend(loc="best")


def _finding(epochs: Epochs, selected: int | None) -> str:
    chosen: Mapping[str, Any] = next((row for row in epochs if row["epoch"] == selected), {})
    said = [f"{percent(chosen[c])} {name}" for c, (name, *_) in ACCURACIES.items() if _is_number(chosen.get(c))]
    return (
        f"Epoch {selected} is selected: {', '.join(said)} on validation"
        if said
        else f"{len(epochs)} epochs of training"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))
