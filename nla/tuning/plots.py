"""Figures of a search: parallel coordinates, the best score so far, and the importance of each parameter.

Legend: T trials, A axes of the parallel coordinates.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator

from nla.config.tune import Distribution, TuneConfig
from nla.plotting import BLUE, BLUES, FAINT, MUTED, VERMILLION, headline, percent, percent_axis, styled
from nla.tuning.results import Trial

MIN_TRIALS = 8
"""With fewer trials than this, an importance would be noise."""


def search_figures(trials: Sequence[Trial], settings: TuneConfig) -> dict[str, Figure]:
    """Figures by name, of the trials that did not fail; {} if all failed."""
    good = [trial for trial in trials if trial.score(settings.objective) >= 0]
    if not good:
        return {}
    scores = [trial.score(settings.objective) for trial in good]
    values = {name: [trial.values.get(name) for trial in good] for name in settings.distributions}
    scales = {
        name: parameter_scale(settings.distributions[name], value_T)
        for name, value_T in values.items()
        if any(value is not None for value in value_T)
    }
    figures = {
        "parallel": parallel_coordinates(scales, scores, settings.objective),
        "best_so_far": best_so_far(scores, [trial.seconds for trial in good], settings.objective),
    }
    if importances := parameter_importance(trials, settings.distributions, settings.objective):
        figures["importance"] = importance_chart(importances)
    return figures


class Scale(NamedTuple):
    """One axis of the parallel coordinates, with T trials on it."""

    height_T: list[float]
    """In [0, 1]; NaN for a trial in which the parameter is inactive."""
    ticks: list[tuple[float, str]]
    """(height, label): the lowest and highest value, or each choice."""
    is_log: bool = False
    """Whether the axis is logarithmic."""


def parameter_scale(distribution: Distribution, value_T: Sequence[Any]) -> Scale:
    """The axis of a parameter; a value of None means that the parameter is inactive in that trial."""
    if distribution.kind in ("choice", "grid") and not all(map(_is_number, distribution.arguments)):
        return _category_scale(distribution.arguments, value_T)
    is_log = distribution.kind == "loguniform"
    return numeric_scale([math.nan if value is None else float(value) for value in value_T], is_log=is_log)


def numeric_scale(
    value_T: Sequence[float], *, is_log: bool = False, write: Callable[[float], str] = "{:.3g}".format
) -> Scale:
    """An axis from the lowest to the highest value; at least one must not be NaN."""
    x_T = np.log(value_T) if is_log else np.asarray(value_T, dtype=float)
    low, high = np.nanmin(x_T), np.nanmax(x_T)
    height_T = (x_T - low) / (high - low) if high > low else x_T - low + 0.5
    ends = {0.0: np.nanmin(value_T), 1.0: np.nanmax(value_T)} if high > low else {0.5: np.nanmin(value_T)}
    return Scale(height_T.tolist(), [(height, write(end)) for height, end in ends.items()], is_log)


def _category_scale(choices: Sequence[Any], value_T: Sequence[Any]) -> Scale:
    """The choices, evenly spaced in their order; None gets a height only if it is one of them."""
    step = 1 / max(1, len(choices) - 1)
    heights = {_label(choice): i * step for i, choice in enumerate(choices)}
    ticks = [(height, label) for label, height in heights.items()]
    return Scale([heights.get(_label(value), math.nan) for value in value_T], ticks)


def _label(value: Any) -> str:
    """The value as written in params.yaml."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@styled
def parallel_coordinates(scales: Mapping[str, Scale], score_T: Sequence[float], objective: str) -> Figure:
    """One line per trial across an axis per parameter and one for the score; darker is better, and the best is red."""
    scale_A = [*scales.values(), numeric_scale(score_T, write=percent)]
    height_AT = np.array([scale.height_T for scale in scale_A])
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    axes = figure.add_subplot()
    _draw_lines(axes, height_AT, score_T)
    axes.vlines(np.arange(len(scale_A)), 0, 1, color=FAINT, lw=1, zorder=0)
    for i, scale in enumerate(scale_A):
        for height, text in scale.ticks:
            _draw_tick(axes, i, height, text)
    labels = [f"{_short(name)}{' (log)' if scale.is_log else ''}" for name, scale in scales.items()]
    axes.set_xticks(np.arange(len(scale_A)), [*labels, _short(objective)], rotation=20, ha="right")
    axes.set(yticks=[], ylim=(-0.12, 1.12))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    gaps = "; a line is broken where a parameter is inactive" if np.isnan(height_AT).any() else ""
    title = f"{len(score_T)} trials, the best at {percent(max(score_T))}"
    headline(axes, title, f"{_short(objective)} on validation{gaps}")
    return figure


def _draw_lines(axes: Axes, height_AT: Any, score_T: Sequence[float]) -> None:
    """Draws the trials from worst to best, so that the best is on top; of equal scores, the earliest is the best."""
    order = np.lexsort((-np.arange(len(score_T)), np.asarray(score_T)))
    last = len(order) - 1
    for rank, trial in enumerate(order):
        is_best = rank == last
        color = VERMILLION if is_best else BLUES(0.25 + 0.6 * rank / max(1, last))
        width, alpha = (2.6, 1.0) if is_best else (1.1, 0.75)
        axes.plot(height_AT[:, trial], color=color, lw=width, alpha=alpha, marker="o", ms=3)


def _draw_tick(axes: Axes, x: int, height: float, text: str) -> None:
    """Writes a value at its axis: ends above and below it, values between beside it."""
    style: dict[str, Any] = {"xytext": (0, 5 if height else -13), "ha": "center"}
    if 0 < height < 1:
        box = {"fc": "white", "ec": "none", "alpha": 0.7, "pad": 1}
        style = {"xytext": (5, 0), "ha": "left", "va": "center", "bbox": box}
    axes.annotate(text, (x, height), textcoords="offset points", **style, color=MUTED, fontsize=8.5)


@styled
def best_so_far(score_T: Sequence[float], seconds_T: Sequence[float], objective: str) -> Figure:
    """Best score so far against the number of ended trials and against seconds."""
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
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    headline(left, f"Best {percent(best[-1])}", f"{_short(objective)} on validation")
    return figure


class Importance(NamedTuple):
    """How much a parameter has to do with a trial being among the best."""

    share: float
    """Share of the importance, in [0, 1]."""
    trials: int
    """Number of trials compared: those that have the parameter."""


@styled
def importance_chart(importances: Mapping[str, Importance]) -> Figure:
    """Bars of each parameter's share of the importance; paler for parameters that only some trials have."""
    names = sorted(importances, key=lambda name: importances[name].share)
    trials = max(each.trials for each in importances.values())
    common = [name for name in names if importances[name].trials == trials]
    notes = {
        name: f"\n(among the {importances[name].trials} trials that have it)" for name in names if name not in common
    }
    figure = Figure(figsize=(7.5, 1.9 + 0.4 * len(names) + 0.15 * len(notes)), layout="constrained")
    axes = figure.add_subplot()
    labels = [f"{_short(name)}{notes.get(name, '')}" for name in names]
    axes.barh(labels, [importances[name].share for name in names], height=0.62, color=BLUE, alpha=0.85)
    for i, name in enumerate(names):
        axes.patches[i].set_alpha(0.45 if name in notes else 0.85)
    axes.set(xlim=(0, None), xlabel="share of the importance")
    percent_axis(axes.xaxis)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    title = f"{_short(common[-1])} matters most"
    headline(axes, title, f"PED-ANOVA over {trials} trials; no test of significance")
    return figure


def parameter_importance(
    trials: Sequence[Trial], space: Mapping[str, Distribution], objective: str
) -> dict[str, Importance]:
    """The importance of each parameter, by dotted name; {} with fewer than MIN_TRIALS trials or one parameter.

    The shares of the parameters that all trials have sum to 1. A conditional parameter's share is relative to all
    parameters common to the trials that have it; it is left out if those trials are too few.
    PED-ANOVA, Watanabe et al., IJCAI 2023, arXiv 2304.10255, as implemented in Optuna.
    """
    usable = [trial for trial in trials if trial.score(objective) >= 0]
    common = _common_parameters(usable, space)
    if len(usable) < MIN_TRIALS or len(common) < 2:
        return {}
    shares = _shares(usable, common, space, objective)
    found = {name: Importance(share, len(usable)) for name, share in shares.items()}
    for name in space.keys() - common:
        having = [trial for trial in usable if name in trial.values]
        if len(having) >= MIN_TRIALS:
            shares = _shares(having, _common_parameters(having, space), space, objective)
            found[name] = Importance(shares[name], len(having))
    return found


def _common_parameters(trials: Sequence[Trial], space: Mapping[str, Distribution]) -> list[str]:
    return [name for name in space if all(name in trial.values for trial in trials)]


def _shares(
    trials: Sequence[Trial], names: Sequence[str], space: Mapping[str, Distribution], objective: str
) -> dict[str, float]:
    """Shares of the importance of parameters that all these trials have."""
    distributions = {name: _optuna_range(space[name], [trial.values[name] for trial in trials]) for name in names}
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    for trial in trials:
        params = {name: _optuna_value(trial.values[name], distributions[name]) for name in names}
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, value=trial.score(objective))
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = PedAnovaImportanceEvaluator()
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _optuna_range(distribution: Distribution, values: list[Any]) -> BaseDistribution:
    if distribution.kind in ("choice", "grid"):
        return CategoricalDistribution([repr(value) for value in distribution.arguments])
    low, high = distribution.ends()
    low, high = min(low, *values), max(high, *values)  # quniform rounds, possibly past an end
    return FloatDistribution(low, high, log=distribution.kind == "loguniform")


def _optuna_value(value: Any, distribution: BaseDistribution) -> Any:
    return repr(value) if isinstance(distribution, CategoricalDistribution) else float(value)


def _short(name: str) -> str:
    """The name of a parameter without its section: "loss.true_ratio" -> "true ratio"."""
    return name.removeprefix("loss.").removeprefix("options.").removeprefix("train.").replace("_", " ")
