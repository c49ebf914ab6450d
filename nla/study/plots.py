"""Figures of a study; each function takes the dict of nla.study.results and returns a Figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from nla.plotting import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    VERMILLION,
    headline,
    percent,
    percent_axis,
    short,
    styled,
)

COLORS = (BLUE, VERMILLION, GREEN, ORANGE, "#cc79a7", "#56b4e9", INK)  # Okabe and Ito's, with black last
MARKERS = "osD^vPX*"
"""Eight of them, so that colour and marker first repeat together at the 57th method."""
DODGE = 0.12
"""Methods at one noise rate are spread over this fraction of the smallest step between rates."""
ROW = 0.3
"""Height of a row in inches."""
LONGEST = 18
"""Longest method name shown, in characters; logit_adjustment has 16."""

FLIPPED = ("flipped_auroc", "flipped_auroc_p_GT")
CHOSEN: dict[str, Any] = {"marker": "o", "ls": "none", "ms": 6, "color": BLUE}
CLAIMED: dict[str, Any] = {"marker": "o", "ls": "none", "ms": 10, "mfc": "none", "mec": VERMILLION}  # a ring around it


class Row(NamedTuple):
    """The numbers of one method under one condition."""

    condition: str
    method: str
    numbers: Mapping[str, Any]


def draw_figures(results: Mapping[str, Any]) -> dict[str, Figure]:
    """All figures for which the results suffice, by name."""
    found = {}
    if len({part["noise_rate"] for part in results["conditions"].values()}) > 1:
        found["accuracy_by_noise"] = accuracy_by_noise(results, "accuracy")
        found["mean_accuracy_by_noise"] = accuracy_by_noise(results, "mean_accuracy")
    if any(_rows_against(results, "accuracy")):
        found["difference_from_hardest_other"] = difference_from_hardest_other(results)
    found["best_on_test"] = best_on_test(results)
    if any(_rows_with_flips(results)):
        found["flipped_by_weight"] = flipped_by_weight(results)
    return found


@styled
def accuracy_by_noise(results: Mapping[str, Any], metric: str) -> Figure:
    """Mean and standard deviation over seeds against the noise rate.

    One line per method, one panel per noise kind and imbalance. Labels without noise belong to every kind.
    """
    panels = _panels(results["conditions"])
    figure = Figure(figsize=(max(7.5, 3.9 * len(panels)), 4.8), layout="constrained")
    axes_P = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    methods = _methods(results)
    for axes, (title, conditions) in zip(axes_P, panels.items(), strict=True):
        rates = sorted({part["noise_rate"] for part in conditions})
        step = min(np.diff(rates), default=1.0)
        for m, method in enumerate(methods):
            shift = DODGE * step * (m - (len(methods) - 1) / 2) / max(1, len(methods) - 1)
            runs = [part for part in conditions if method in part["methods"]]
            _draw_line(axes, runs, method, metric, shift, _look(m))
        axes.set(xlabel=f"label noise in train, {title}", xticks=rates)
        axes.set_xlim(rates[0] - 0.3 * step, rates[-1] + 0.3 * step)
        percent_axis(axes.xaxis)
        axes.grid(axis="y")
    axes_P[0].set_ylabel(f"{_words(metric)} on test")
    percent_axis(axes_P[0].yaxis)
    handles, labels = axes_P[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)))
    context = _context(f"mean ± standard deviation, {_seeds(results)}", results)
    headline(axes_P[0], f"{_words(metric).capitalize()} against label noise", context)
    return figure


@styled
def difference_from_hardest_other(results: Mapping[str, Any], metric: str = "accuracy") -> Figure:
    """Differences from the hardest other method with their 95 % intervals, grouped by condition."""
    rows = list(_rows_against(results, metric))
    figure, axes = _chart_of_rows(rows)
    for y, row in zip(_heights(rows), rows, strict=True):
        other, found = _hardest(row, metric)
        low, value, high = found["low"], found["difference"], found["high"]
        color = BLUE if low > 0 else VERMILLION if high < 0 else MUTED
        axes.errorbar(value, y, xerr=[[value - low], [high - value]], fmt="o", ms=5, color=color, capsize=3, lw=1.6)
        text = f"{100 * value:+.1f} from {short(other, LONGEST)}, p {_p(found['p'])}"
        _beside(axes, y, text)
    axes.axvline(0, color=INK, lw=1, ls=(0, (4, 3)))
    axes.set_xlabel(f"difference of {_words(metric)}, with its 95 % interval")
    percent_axis(axes.xaxis)
    ahead = sum(row.numbers["against"][metric]["ahead"] for row in rows)
    title = f"{_words(metric).capitalize()}: {ahead} of {len(rows)} ahead of each other method"
    headline(axes, title, _context("blue: whole interval above zero, red: below; p not corrected", results))
    return figure


@styled
def best_on_test(results: Mapping[str, Any]) -> Figure:
    """Accuracy of the epoch chosen on validation, and what choosing the best epoch on test would have claimed."""
    rows = list(_rows(results))
    figure, axes = _chart_of_rows(rows)
    for y, row in zip(_heights(rows), rows, strict=True):
        chosen, claimed = row.numbers["accuracy"]["mean"], row.numbers["best_on_test"]
        axes.plot([chosen, claimed["accuracy"]["mean"]], [y, y], color=FAINT, lw=1.6, zorder=1)
        axes.plot(chosen, y, **CHOSEN)
        axes.plot(claimed["accuracy"]["mean"], y, **CLAIMED)
        _beside(axes, y, f"{percent(chosen)}  {100 * claimed['surplus']['mean']:+.1f}")
    axes.set_xlabel("accuracy on test")
    percent_axis(axes.xaxis)
    _legend_above(axes, {"chosen on validation": CHOSEN, "best on test": CLAIMED})
    mean = np.mean([row.numbers["best_on_test"]["surplus"]["mean"] for row in rows])
    title = f"Best on test would claim {100 * mean:.1f} points more"
    headline(axes, title, _context(f"mean over {_seeds(results)}", results), lift=18)
    return figure


@styled
def flipped_by_weight(results: Mapping[str, Any]) -> Figure:
    """How well a low weight, and a low p_GT, identify flipped training labels: AUROC, early to late in training."""
    rows = list(_rows_with_flips(results))
    figure, axes = _chart_of_rows(rows)
    for y, row in zip(_heights(rows), rows, strict=True):
        for key, color, lift in zip(FLIPPED, (BLUE, ORANGE), (-0.14, 0.14), strict=True):
            early, late = (row.numbers["weight"][f"{moment}.{key}"]["mean"] for moment in ("early", "late"))
            arrow = {"arrowstyle": "-|>", "color": color, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (late, y + lift), (early, y + lift), arrowprops=arrow)
            axes.plot([early, late], [y + lift] * 2, "o", ms=4, color=color, markevery=[0])
    axes.axvline(0.5, color=INK, lw=1, ls=(0, (4, 3)))
    axes.set_xlabel("AUROC, from early to late in training; 0.5 is chance")
    _legend_above(axes, {"by the weight": {"color": BLUE}, "by p_GT": {"color": ORANGE}})
    late = [[row.numbers["weight"][f"late.{key}"]["mean"] for key in FLIPPED] for row in rows]
    higher = sum(by_weight > by_p_GT for by_weight, by_p_GT in late)
    title = f"Flipped labels: weight above p_GT in {higher} of {len(rows)}"
    headline(axes, title, _context(f"late in training, mean over {_seeds(results)}", results), lift=18)
    return figure


def _rows(results: Mapping[str, Any]) -> Iterator[Row]:
    for condition, part in results["conditions"].items():
        for method, numbers in part["methods"].items():
            yield Row(condition, method, numbers)


def _rows_against(results: Mapping[str, Any], metric: str) -> Iterator[Row]:
    return (row for row in _rows(results) if metric in row.numbers["against"])


def _hardest(row: Row, metric: str) -> tuple[str, Mapping[str, float]]:
    """The hardest other method, and the difference from it."""
    against = row.numbers["against"][metric]
    return against["hardest"], against["others"][against["hardest"]]


def _rows_with_flips(results: Mapping[str, Any]) -> Iterator[Row]:
    return (row for row in _rows(results) if "late.flipped_auroc" in row.numbers["weight"])


def _heights(rows: Sequence[Row]) -> list[float]:
    """Positions from 0 downwards, with room above the first row of each condition for its name."""
    heights, y = list[float](), -1.0
    for i, row in enumerate(rows):
        y += 1.0 if i == 0 or row.condition == rows[i - 1].condition else 2.0
        heights.append(y)
    return heights


def _chart_of_rows(rows: Sequence[Row]) -> tuple[Figure, Axes]:
    """Axes with one row per method, grouped under the names of the conditions."""
    heights = _heights(rows)
    figure = Figure(figsize=(7.5, 1.9 + ROW * (heights[-1] + 2)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_yticks(heights, [short(row.method, LONGEST) for row in rows])
    axes.set_ylim(heights[-1] + 0.7, -1.7)
    for i, (y, row) in enumerate(zip(heights, rows, strict=True)):
        if i == 0 or row.condition != rows[i - 1].condition:
            transform = blended_transform_factory(axes.transAxes, axes.transData)
            words = axes.text(
                0.01, y - 1, row.condition, transform=transform, va="center", fontsize=9, fontweight="bold"
            )
            words.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x")
    return figure, axes


def _legend_above(axes: Axes, looks: Mapping[str, Mapping[str, Any]]) -> None:
    handles = [Line2D([], [], label=name, **look) for name, look in looks.items()]
    options: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "borderpad": 0}
    axes.legend(handles=handles, **options, ncols=len(handles), columnspacing=1.6)


def _beside(axes: Axes, y: float, text: str) -> None:
    """Writes `text` to the right of the axes."""
    transform = blended_transform_factory(axes.transAxes, axes.transData)
    axes.text(1.02, y, text, transform=transform, va="center", fontsize=8.5, color=MUTED)


def _panels(conditions: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Conditions by kind of noise and imbalance, sorted by noise rate."""
    parts = conditions.values()
    kinds = dict.fromkeys((part["noise_kind"], part["imbalance_factor"]) for part in parts if part["noise_rate"])
    panels = {}
    for kind, factor in kinds:
        own = [part for part in parts if part["imbalance_factor"] == factor]
        shown = [part for part in own if part["noise_kind"] == kind or not part["noise_rate"]]
        title = kind if factor is None else f"{kind}, imbalance {factor:g}"
        panels[title] = sorted(shown, key=lambda part: part["noise_rate"])
    return panels


def _draw_line(
    axes: Axes,
    conditions: Sequence[Mapping[str, Any]],
    method: str,
    metric: str,
    shift: float,
    look: Mapping[str, Any],
) -> None:
    rate = [part["noise_rate"] + shift for part in conditions]
    spreads = [part["methods"][method][metric] for part in conditions]
    mean, std = [s["mean"] for s in spreads], [s["std"] or 0.0 for s in spreads]
    axes.errorbar(rate, mean, yerr=std, label=short(method, LONGEST), ms=5, lw=1.6, capsize=2.5, elinewidth=1.1, **look)


def _look(number: int) -> dict[str, Any]:
    return {"color": COLORS[number % len(COLORS)], "marker": MARKERS[number % len(MARKERS)]}


def _methods(results: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(row.method for row in _rows(results)))


def _context(text: str, results: Mapping[str, Any]) -> str:
    """A subtitle, which refers to the caveats if there are any."""
    return f"{text}; caveats: see the report" if results["caveats"] else text


def _seeds(results: Mapping[str, Any]) -> str:
    """The number of seeds, in words."""
    counts = sorted({row.numbers["accuracy"]["n"] for row in _rows(results)})
    return f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0]} seed{'s' * (counts[0] > 1)}"


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
