"""What a search for hyperparameters went through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nla.evaluation.plots.style import BLUE, BLUES, FAINT, MUTED, VERMILLION, headline, percent, percent_axis, styled


@styled
def parallel_coordinates(values: Mapping[str, Sequence[float]], score_T: Sequence[float], objective: str) -> Figure:
    """A line a trial over an axis a parameter and one for the score; the darker, the better, and the best in red.

    `values` gives T numbers a parameter, NaN where it does not count in a trial.
    """
    names = [*values, objective]
    columns = np.array([*values.values(), score_T], dtype=float)
    low, high = np.nanmin(columns, axis=1), np.nanmax(columns, axis=1)
    unit = (columns - low[:, None]) / np.where(high > low, high - low, 1)[:, None]
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    axes = figure.add_subplot()
    order = np.argsort(score_T)
    for rank, trial in enumerate(order):
        best = rank == len(order) - 1
        color = VERMILLION if best else BLUES(0.25 + 0.6 * rank / max(1, len(order) - 1))
        axes.plot(unit[:, trial], color=color, lw=2.6 if best else 1.1, alpha=1 if best else 0.75, marker="o", ms=3)
    axes.vlines(np.arange(len(names)), 0, 1, color=FAINT, lw=1, zorder=0)
    for i in range(len(names)):
        write = percent if i == len(names) - 1 else "{:.3g}".format
        for value, height, above in ((high[i], 1, 5), (low[i], 0, -13)):
            place: dict[str, Any] = {"xytext": (0, above), "textcoords": "offset points", "ha": "center"}
            axes.annotate(write(value), (i, height), **place, color=MUTED, fontsize=8.5)
    axes.set_xticks(np.arange(len(names)), [_short(name) for name in names], rotation=20, ha="right")
    axes.set(yticks=[], ylim=(-0.12, 1.12))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    headline(axes, f"{len(score_T)} trials, the best at {percent(max(score_T))}", f"{_short(objective)} on validation")
    return figure


@styled
def parameter_importance(importance: Mapping[str, float], trials: int) -> Figure:
    """How much each parameter has to do with a trial's being among the best; shares of 1."""
    names = sorted(importance, key=lambda name: importance[name])
    figure = Figure(figsize=(7.5, 1.9 + 0.4 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(
        [_short(name) for name in names], [importance[name] for name in names], height=0.62, color=BLUE, alpha=0.85
    )
    axes.set(xlim=(0, None), xlabel="share of the importance")
    percent_axis(axes.xaxis)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    headline(axes, f"{_short(names[-1])} matters most", f"PED-ANOVA over {trials} trials; no test of significance")
    return figure


@styled
def best_so_far(score_T: Sequence[float], seconds_T: Sequence[float], objective: str) -> Figure:
    """The best score against trials, in the order they ended, and against seconds."""
    order = np.argsort(seconds_T, kind="stable")
    score = np.asarray(score_T, dtype=float)[order]
    best, seconds = np.maximum.accumulate(score), np.asarray(seconds_T, dtype=float)[order]
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, x, label in ((left, np.arange(1, len(score) + 1), "trials that have ended"), (right, seconds, "seconds")):
        axes.scatter(x, score, s=18, color=FAINT, zorder=2)
        axes.step(x, best, where="post", color=BLUE)
        axes.set_xlabel(label)
        percent_axis(axes.yaxis)
        axes.grid(axis="y")
    headline(left, f"Best {percent(best[-1])}", f"{_short(objective)} on validation")
    return figure


def _short(name: str) -> str:
    return name.removeprefix("loss.").removeprefix("train.").replace("_", " ")
