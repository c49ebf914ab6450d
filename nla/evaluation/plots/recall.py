"""Figure of the recall of each class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from nla.pictures import BLUE, INK, MUTED, headline, on_split, percent, percent_axis, short, styled


@styled
def recall_bars(per_class: Mapping[str, Mapping[str, float]], split: str = "test") -> Figure:
    """Recall with its 95 % interval and the number of faces of each class, best first; the line marks their mean.

    `per_class` is the part `classes` of nla.evaluation.metrics.measure.
    """
    names = sorted(per_class, key=lambda name: per_class[name]["recall"], reverse=True)
    recall, low, high, support = (
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
    for row, faces in enumerate(support):
        axes.annotate(f"{percent(recall[row], 0)} of {int(faces):,}", (1.02, row), va="center", annotation_clip=False)
    headline(axes, _finding(names, recall, mean), on_split(int(support.sum()), split))
    return figure


def _finding(names: list[str], recall: np.ndarray, mean: float) -> str:
    head = f"Mean accuracy {percent(mean)}"
    return f"{head}: best {short(names[0])}, worst {short(names[-1])}" if recall[0] > recall[-1] else head
