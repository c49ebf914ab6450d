"""What a person sees of a search: pictures, and lines while it runs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nla.config.tune import Distribution
from nla.plotting import write_figure
from nla.tuning.plots import Scale, Share, best_so_far, of_numbers, parallel_coordinates, parameter_importance, scale
from nla.tuning.reporters import trial_table


def test_the_best_is_drawn_and_named(tmp_path: Path) -> None:
    scales = {"loss.lam": of_numbers([0.2, 0.5, 0.9]), "loss.slope": of_numbers([1, float("nan"), 3])}
    figure = parallel_coordinates(scales, [0.1, 0.7, 0.4], "x")
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "3 trials, the best at 70.0 %"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["lam", "slope", "x"]
    assert [text.get_text() for text in axes.texts if "broken" in text.get_text()], "the gap is explained"
    write_figure(figure, tmp_path / "parallel.png")
    assert (tmp_path / "parallel.png").read_bytes().startswith(b"\x89PNG")


def test_the_earliest_of_equals_is_the_best() -> None:
    (axes,) = parallel_coordinates({"loss.lam": of_numbers([0.25, 0.5, 1.0])}, [0.7, 0.7, 0.1], "x").axes
    assert axes.lines[-1].get_linewidth() > axes.lines[0].get_linewidth()
    assert axes.lines[-1].get_ydata()[0] == 0.0, "trial 0, as in best.yaml"


def test_a_logarithm_has_a_logarithmic_axis() -> None:
    found = scale(Distribution(loguniform=(1e-4, 1.0)), [0.001, 0.01, None, 0.1])
    assert found.height_T[:2] + found.height_T[3:] == pytest.approx([0.0, 0.5, 1.0]) and math.isnan(found.height_T[2])
    assert found.marks == [(0.0, "0.001"), (1.0, "0.1")]
    (axes,) = parallel_coordinates({"train.lr": found}, [0.1, 0.2, 0.3, 0.4], "x").axes
    assert axes.get_xticklabels()[0].get_text() == "lr (log)"


def test_choices_stand_at_the_axis_by_their_names() -> None:
    found = scale(Distribution(choice=["none", "sum", "mean"]), ["mean", "none", None])
    assert found.height_T[:2] == [1.0, 0.0] and math.isnan(found.height_T[2])
    assert found.marks == [(0.0, "none"), (0.5, "sum"), (1.0, "mean")]
    (axes,) = parallel_coordinates({"loss.a": found}, [0.1, 0.2, 0.3], "x").axes
    assert {"none", "sum", "mean"} <= {text.get_text() for text in axes.texts}
    assert scale(Distribution(choice=[True, False, None]), [False, None]).height_T == [0.5, 1.0]
    assert scale(Distribution(choice=[16, 32, 64]), [16, 64]).marks == [(0.0, "16"), (1.0, "64")]


def test_one_value_lies_in_the_middle() -> None:
    assert scale(Distribution(uniform=(0.0, 1.0)), [0.5, 0.5]) == Scale([0.5, 0.5], [(0.5, "0.5")])


def test_the_best_so_far_never_falls() -> None:
    left, right = best_so_far([0.5, 0.7, 0.6], [30.0, 10.0, 20.0], "accuracy").axes
    for axes, expected in ((left, [1, 2, 3]), (right, [10, 20, 30])):
        (line,) = axes.lines
        assert list(line.get_xdata()) == expected and list(line.get_ydata()) == [0.7, 0.7, 0.7]


def test_trials_are_counted_in_whole_numbers() -> None:
    left, _ = best_so_far([0.5, 0.7, 0.6, 0.4], [30.0, 10.0, 20.0, 40.0], "accuracy").axes
    assert all(tick == round(tick) for tick in left.get_xticks())


def test_the_most_important_is_named() -> None:
    shares = {"loss.lam": Share(0.2, 19), "train.lr": Share(0.8, 19), "loss.slope": Share(0.9, 8)}
    (axes,) = parameter_importance(shares).axes
    assert axes.get_title(loc="left") == "lr matters most", "of those that all trials have"
    assert [bar.get_width() for bar in axes.patches] == [0.2, 0.8, 0.9]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["lam", "lr", "slope\n(among the 8 trials that have it)"]


def test_a_line_for_each_trial_that_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with trial_table(2, 3, "accuracy") as table:
        for trial, accuracy in (("a", 0.5), ("b", 0.25)):
            table.started(trial, {})
            table.epoch(trial, {"epoch": 1.0, "valid_accuracy": accuracy, "valid_mean_accuracy": 0.0})
            table.ended(trial)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trial")]
    assert lines[0].startswith("trial   1/2  accuracy 50.00% after epoch 1 of 3; best so far 50.00%")
    assert lines[1].startswith("trial   2/2  accuracy 25.00% after epoch 1 of 3; best so far 50.00%")


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("trial")]


def test_a_search_that_goes_on_counts_what_had_ended(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"epoch": i + 1.0, "valid_accuracy": x, "valid_mean_accuracy": 0.0} for i, x in enumerate((0.75, 0.5))]
    with trial_table(3, 2, "accuracy") as table:
        table.known("a", rows)
        table.known("b", [])
        table.started("c", {})
        table.epoch("c", {"epoch": 1.0, "valid_accuracy": 0.25, "valid_mean_accuracy": 0.0})
        table.ended("c")
    (line,) = lines_of(capsys)
    assert line.startswith("trial   3/3  accuracy 25.00% after epoch 1 of 2; best so far 75.00%")


def test_a_trial_counts_once_and_no_search_has_more_than_all(capsys: pytest.CaptureFixture[str]) -> None:
    with trial_table(2, 1, "accuracy") as table:
        for trial in ("a", "b", "b", "c"):  # b's node was lost
            table.started(trial, {})
            table.ended(trial)
    assert [line.split()[1] for line in lines_of(capsys)] == ["1/2", "2/2", "2/2", "3/3"]


def test_no_more_time_is_left_than_the_budget_has(capsys: pytest.CaptureFixture[str]) -> None:
    with trial_table(100, 1, "accuracy", lambda: 120.0) as table:
        table.began -= 600.0  # ten minutes a trial
        table.started("a", {})
        table.ended("a")
    assert lines_of(capsys)[0].endswith("; about 2 min left")
