"""Figures of the audit: where the labels are in the triangle, and how many of each class are probably wrong.

Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from nla.audit.table import VERDICTS
from nla.plotting import BLUE, FAINT, INK, MUTED, ORANGE, VERMILLION, headline, percent, percent_axis, short, styled

MOST = 4000
"""Rows drawn; more would only cover each other."""
COLOURS = dict(zip(VERDICTS, (BLUE, ORANGE, VERMILLION), strict=True))


def audit_figures(table: pa.Table, report: Mapping[str, Any], seed: int) -> dict[str, Figure]:
    """The figures of the training labels, by name."""
    train = table.filter(pc.equal(table["split"], "train"))
    return {"verdicts": verdict_triangle(train, seed), "wrong_labels": wrong_label_bars(report["train"])}


@styled
def verdict_triangle(train: pa.Table, seed: int) -> Figure:
    """Each label at the probability of its class and that of the nearest other one, in the colour of its verdict.

    At most MOST rows, drawn with `seed`, are shown; the counts are of all.
    """
    own_N = train["self_confidence"].to_numpy()
    nearest_N = own_N - train["margin"].to_numpy()
    verdict_N = np.array(train["verdict"].to_pylist(), object)
    shown_N = np.random.default_rng(seed).permutation(len(own_N))[:MOST]
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    axes = figure.add_subplot()
    axes.add_patch(Polygon([(0, 0), (1, 0), (0, 1)], closed=True, fill=False, edgecolor=MUTED, lw=1))
    axes.plot([0, 0.5], [0, 0.5], color=FAINT, lw=1, ls="--")
    for verdict, colour in COLOURS.items():
        rows = shown_N[verdict_N[shown_N] == verdict]
        label = f"{verdict}: {int((verdict_N == verdict).sum()):,}"
        axes.scatter(own_N[rows], nearest_N[rows], s=7, color=colour, alpha=0.5, lw=0, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_xlabel("probability of the given label")
    axes.set_ylabel("that of the most probable other class")
    axes.legend(loc="upper right", markerscale=2)
    headline(axes, "Labels in the triangle", f"{len(own_N):,} training labels, by models that have not seen them")
    return figure


@styled
def wrong_label_bars(train: Mapping[str, Any]) -> Figure:
    """Estimated share of wrong labels of each class, with its 95 % interval, from the section of the summary."""
    classes = sorted(train["classes"].items(), key=lambda item: item[1]["wrong"] / item[1]["rows"])
    share, low, high = (
        np.array([row[key] / row["rows"] for _, row in classes]) for key in ("wrong", "wrong_low", "wrong_high")
    )
    figure = Figure(figsize=(7.0, 1.6 + 0.38 * len(classes)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(classes)), share, color=BLUE, height=0.62)
    for i, (_, row) in enumerate(classes):
        axes.plot([low[i], high[i]], [i, i], color=INK, lw=1.2)
        axes.annotate(f" {row['wrong']:,.0f} of {row['rows']:,}", (max(share[i], high[i]), i), va="center", fontsize=9)
    axes.set_yticks(range(len(classes)), [short(name) for name, _ in classes])
    axes.set_xlim(0, max(0.01, float(high.max())) * 1.3)
    percent_axis(axes.xaxis)
    axes.set_xlabel("labels that are probably wrong, with 95 % intervals")
    total = percent(train["wrong"] / train["rows"])
    context = f"{train['rows']:,} training labels, by given class, if errors fall on all classes alike"
    headline(axes, f"{total} of the labels are probably wrong", context)
    return figure
