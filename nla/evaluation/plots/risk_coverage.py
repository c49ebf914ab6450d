"""Accuracy of the predictions that are kept, against their share."""

from __future__ import annotations

from matplotlib.figure import Figure

from nla.evaluation.risk_coverage import RiskCoverage
from nla.plotting import BLUE, MUTED, headline, on_split, percent, percent_axis, styled

HALF = 0.5
"""Coverage at which the headline states the accuracy."""


@styled
def risk_coverage_curve(curve: RiskCoverage, rows: int, split: str = "test") -> Figure:
    """Accuracy of the kept images against coverage, of `rows` images; the least confident are refused first."""
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve.coverage, curve.accuracy, color=BLUE, drawstyle="steps-post" if len(curve.coverage) < 3 else None)
    axes.axhline(curve.accuracy[-1], color=MUTED, lw=1, ls=(0, (4, 3)), label="all faces")
    axes.set(xlim=(0, 1), xlabel="coverage: share of faces that is kept", ylabel="kept faces that are right")
    percent_axis(axes.xaxis)
    percent_axis(axes.yaxis)
    axes.grid(axis="y")
    axes.legend(loc="upper right")
    at = int(abs(curve.coverage - HALF).argmin())
    found = f"{percent(curve.accuracy[at])} right on the {percent(curve.coverage[at])} most confident"
    headline(axes, f"{found}, {percent(curve.accuracy[-1])} on all", on_split(rows, split))
    return figure
