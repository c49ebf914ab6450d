"""Reliability diagram: accuracy against confidence."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nla.evaluation.calibration import Reliability
from nla.plotting import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    VERMILLION,
    headline,
    on_split,
    percent,
    percent_axis,
    styled,
)

BAR = 0.9  # fraction of a bin's width
MOST_COUNTED = 20  # bins; the numbers of more would touch


@styled
def reliability_diagram(bins: Reliability, split: str = "test") -> Figure:
    """Accuracy against confidence by bin, the gap between them, and the number of faces per bin."""
    figure = Figure(figsize=(7.0, 6.2), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    _draw_accuracy(upper, bins)
    _draw_counts(lower, bins)
    headline(upper, _finding(bins), on_split(int(bins.count.sum()), split), lift=18)
    figure.align_ylabels()
    return figure


def _draw_accuracy(axes: Axes, bins: Reliability) -> None:
    filled = bins.count > 0
    middle, width = _middle(bins)[filled], BAR * np.diff(bins.edges)[filled]
    accuracy, confidence = bins.accuracy[filled], bins.confidence[filled]
    axes.bar(middle, accuracy, width, color=BLUE, alpha=0.85, label="right")
    bottom, gap = np.minimum(accuracy, confidence), np.abs(confidence - accuracy)
    hatched: dict[str, Any] = {"color": "none", "edgecolor": VERMILLION, "hatch": "////", "lw": 0.8}
    axes.bar(middle, gap, width, bottom, label="gap to confidence", **hatched)
    axes.plot([0, 1], [0, 1], color=INK, lw=1.2, ls=(0, (4, 3)), label="perfectly calibrated")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="faces that are right")
    percent_axis(axes.yaxis)
    axes.grid(axis="y")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, borderpad=0, columnspacing=1.6)


def _draw_counts(axes: Axes, bins: Reliability) -> None:
    axes.bar(_middle(bins), bins.count, BAR * np.diff(bins.edges), color=FAINT)
    if len(bins.count) <= MOST_COUNTED:
        for middle, count in zip(_middle(bins), bins.count, strict=True):
            text = f"{count:,}" if count else ""
            options: dict[str, Any] = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
            axes.annotate(text, (middle, count), color=MUTED, fontsize=8, **options)
    axes.set(xlabel="confidence: probability of the predicted class", ylabel="faces")
    axes.margins(y=0.25)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    percent_axis(axes.xaxis)
    axes.grid(axis="y")


def _middle(bins: Reliability) -> np.ndarray:
    return (bins.edges[:-1] + bins.edges[1:]) / 2


def _finding(bins: Reliability) -> str:
    ece = f"Calibration error (ECE) {percent(bins.ece)}"
    if abs(bins.overconfidence) < 0.005:
        return f"{ece}: as sure as it is right"
    side = "too sure" if bins.overconfidence > 0 else "too cautious"
    return f"{ece}: {side} by {100 * abs(bins.overconfidence):.1f} points"
