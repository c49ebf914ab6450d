"""What a person sees of a search: pictures, and lines while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from nla.evaluation.plots.style import write_png
from nla.tuning.plots import best_so_far, parallel_coordinates, parameter_importance
from nla.tuning.table import trial_table


def test_the_best_is_drawn_and_named(tmp_path: Path) -> None:
    figure = parallel_coordinates(
        {"loss.lam": [0.2, 0.5, 0.9], "loss.slope": [1, float("nan"), 3]}, [0.1, 0.7, 0.4], "x"
    )
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "3 trials, the best at 70.0 %"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["lam", "slope", "x"]
    write_png(figure, tmp_path / "parallel.png")
    assert (tmp_path / "parallel.png").read_bytes().startswith(b"\x89PNG")


def test_the_best_so_far_never_falls() -> None:
    left, right = best_so_far([0.5, 0.7, 0.6], [30.0, 10.0, 20.0], "accuracy").axes
    for axes, expected in ((left, [1, 2, 3]), (right, [10, 20, 30])):
        (line,) = axes.lines
        assert list(line.get_xdata()) == expected and list(line.get_ydata()) == [0.7, 0.7, 0.7]


def test_the_most_important_is_named() -> None:
    (axes,) = parameter_importance({"loss.lam": 0.2, "train.lr": 0.8}, 9).axes
    assert axes.get_title(loc="left") == "lr matters most"
    assert [bar.get_width() for bar in axes.patches] == [0.2, 0.8]


def test_a_line_for_each_trial_that_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with trial_table(2, 3, "accuracy") as table:
        for trial, accuracy in (("a", 0.5), ("b", 0.25)):
            table.started(trial, {})
            table.epoch(trial, {"epoch": 1.0, "valid_accuracy": accuracy, "valid_mean_accuracy": 0.0})
            table.ended(trial)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trial")]
    assert lines[0].startswith("trial   1/2  accuracy 50.00% after epoch 1 of 3; best so far 50.00%")
    assert lines[1].startswith("trial   2/2  accuracy 25.00% after epoch 1 of 3; best so far 50.00%")
