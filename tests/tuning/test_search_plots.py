"""Figures of a search."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nla.config.tune import Distribution
from nla.plotting import write_figure
from nla.tuning.plots import (
    Importance,
    Scale,
    best_so_far,
    importance_chart,
    numeric_scale,
    parallel_coordinates,
    parameter_scale,
)


def test_parallel_coordinates_name_the_best(tmp_path: Path) -> None:
    scales = {"loss.lam": numeric_scale([0.2, 0.5, 0.9]), "loss.slope": numeric_scale([1, float("nan"), 3])}
    figure = parallel_coordinates(scales, [0.1, 0.7, 0.4], "x")
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "3 trials, the best at 70.0 %"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["lam", "slope", "x"]
    assert [text.get_text() for text in axes.texts if "broken" in text.get_text()], "the gap is explained"
    write_figure(figure, tmp_path / "parallel.png")
    assert (tmp_path / "parallel.png").read_bytes().startswith(b"\x89PNG")


def test_on_a_tie_the_earliest_trial_is_the_best() -> None:
    (axes,) = parallel_coordinates({"loss.lam": numeric_scale([0.25, 0.5, 1.0])}, [0.7, 0.7, 0.1], "x").axes
    assert axes.lines[-1].get_linewidth() > axes.lines[0].get_linewidth()
    assert axes.lines[-1].get_ydata()[0] == 0.0, "trial 0, as in best.yaml"


def test_loguniform_has_a_logarithmic_axis() -> None:
    found = parameter_scale(Distribution(loguniform=(1e-4, 1.0)), [0.001, 0.01, None, 0.1])
    assert found.height_T[:2] + found.height_T[3:] == pytest.approx([0.0, 0.5, 1.0]) and math.isnan(found.height_T[2])
    assert found.ticks == [(0.0, "0.001"), (1.0, "0.1")]
    (axes,) = parallel_coordinates({"train.lr": found}, [0.1, 0.2, 0.3, 0.4], "x").axes
    assert axes.get_xticklabels()[0].get_text() == "lr (log)"


def test_choices_are_evenly_spaced_and_labelled() -> None:
    found = parameter_scale(Distribution(choice=["none", "sum", "mean"]), ["mean", "none", None])
    assert found.height_T[:2] == [1.0, 0.0] and math.isnan(found.height_T[2])
    assert found.ticks == [(0.0, "none"), (0.5, "sum"), (1.0, "mean")]
    (axes,) = parallel_coordinates({"loss.a": found}, [0.1, 0.2, 0.3], "x").axes
    assert {"none", "sum", "mean"} <= {text.get_text() for text in axes.texts}
    assert parameter_scale(Distribution(choice=[True, False, None]), [False, None]).height_T == [0.5, 1.0]
    assert parameter_scale(Distribution(choice=[16, 32, 64]), [16, 64]).ticks == [(0.0, "16"), (1.0, "64")]


def test_single_value_is_in_the_middle() -> None:
    assert parameter_scale(Distribution(uniform=(0.0, 1.0)), [0.5, 0.5]) == Scale([0.5, 0.5], [(0.5, "0.5")])


def test_best_so_far_never_falls() -> None:
    left, right = best_so_far([0.5, 0.7, 0.6], [30.0, 10.0, 20.0], "accuracy").axes
    for axes, expected in ((left, [1, 2, 3]), (right, [10, 20, 30])):
        (line,) = axes.lines
        assert list(line.get_xdata()) == expected and list(line.get_ydata()) == [0.7, 0.7, 0.7]


def test_axis_of_trials_has_integer_ticks() -> None:
    left, _ = best_so_far([0.5, 0.7, 0.6, 0.4], [30.0, 10.0, 20.0, 40.0], "accuracy").axes
    assert all(tick == round(tick) for tick in left.get_xticks())


def test_importance_chart_names_the_most_important() -> None:
    importances = {"loss.lam": Importance(0.2, 19), "train.lr": Importance(0.8, 19), "loss.slope": Importance(0.9, 8)}
    (axes,) = importance_chart(importances).axes
    assert axes.get_title(loc="left") == "lr matters most", "among those that all trials have"
    assert [bar.get_width() for bar in axes.patches] == [0.2, 0.8, 0.9]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["lam", "lr", "slope\n(among the 8 trials that have it)"]
