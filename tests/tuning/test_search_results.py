"""Trials: which one is best, their table, and the importance of the parameters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from search_parts import template

from nla.config.tune import Distribution
from nla.errors import TrainingError
from nla.io import write_table
from nla.tuning.plots import parameter_importance
from nla.tuning.results import Status, Trial, best_trial, pareto_front, trials_table


def trial(number: int, *points: tuple[float, float], status: Status = "finished", slope: float = 1.0) -> Trial:
    """A trial whose epochs have these (accuracy, mean accuracy) on validation; training keeps the most accurate one."""
    history = [{"epoch": i + 1, "valid_accuracy": a, "valid_mean_accuracy": m} for i, (a, m) in enumerate(points)]
    best = 1 + max(range(len(points)), key=lambda i: points[i][0]) if points else 0
    return Trial(
        number, f"t{number}", {"loss.slope": slope}, status, "", history, seconds=10.0 * number, best_epoch=best
    )


def test_trial_is_judged_by_the_epoch_that_training_keeps() -> None:
    """The first one's mean accuracy of .60 is that of an epoch that training with train.select: accuracy drops."""
    trials = [trial(0, (0.5, 0.60), (0.8, 0.52)), trial(1, (0.7, 0.58)), trial(2, (0.8, 0.1))]
    assert best_trial(trials, "accuracy").number == 0  # on a tie, the earliest
    assert best_trial(trials, "mean_accuracy").number == 1
    assert best_trial(trials, "both").number == 0
    assert trials[0].score("mean_accuracy") == 0.52 and trials[0].best_row["epoch"] == 2
    row = trials_table(trials, [], "mean_accuracy").to_pylist()[0]
    assert (row["best_epoch"], row["accuracy"], row["mean_accuracy"]) == (2, 0.8, 0.52)


def test_every_trial_starts_from_the_first_weights() -> None:
    first = {"conv1.weight": torch.zeros(1)}
    assert replace(template("s"), first_weights=first).job({"loss.lam": 0.4}).first_weights is first


def test_failed_trial_is_never_best() -> None:
    with pytest.raises(TrainingError, match="no trial of the search succeeded"):
        best_trial([trial(0, (0.9, 0.9), status="failed")], "accuracy")
    assert best_trial([trial(0, (0.9, 0.9), status="failed"), trial(1, (0.1, 0.1))], "accuracy").number == 1


def test_pareto_front_excludes_dominated_trials() -> None:
    trials = [trial(0, (0.9, 0.1)), trial(1, (0.5, 0.5)), trial(2, (0.4, 0.4)), trial(3, (0.9, 0.1)), trial(4)]
    assert pareto_front(trials) == {0, 1, 3}


def test_table_has_one_row_per_trial(tmp_path: Path) -> None:
    trials = [trial(0, (0.5, 0.4)), trial(1, (0.7, 0.6), slope=2.0), trial(2, status="failed")]
    table = trials_table(trials, ["loss.slope", "loss.lam"], "accuracy")
    write_table(tmp_path / "trials.parquet", table)
    rows = pq.read_table(tmp_path / "trials.parquet").to_pylist()
    assert [row["chosen"] for row in rows] == [False, True, False]
    assert [row["loss.slope"] for row in rows] == [1.0, 2.0, 1.0]
    assert [row["loss.lam"] for row in rows] == [None] * 3
    assert rows[2]["accuracy"] is None and rows[2]["status"] == "failed"


def test_no_failed_trial_is_chosen() -> None:
    rows = trials_table([trial(0, (0.5, 0.4), status="failed"), trial(1, status="failed")], [], "accuracy").to_pylist()
    assert [(row["status"], row["chosen"], row["pareto"]) for row in rows] == [("failed", False, False)] * 2


def test_table_without_trials_is_empty() -> None:
    assert trials_table([], ["loss.slope"], "accuracy").num_rows == 0


def test_importance_of_the_parameter_that_decides() -> None:
    """The score depends only on the slope."""
    space = {"loss.slope": Distribution(uniform=(0.0, 1.0)), "loss.lam": Distribution(uniform=(0.0, 1.0))}
    trials = []
    for i in range(40):
        slope, lam = (i * 0.618) % 1, (i * 0.414) % 1
        row = {"epoch": 1, "valid_accuracy": slope, "valid_mean_accuracy": slope}
        trials.append(Trial(i, str(i), {"loss.slope": slope, "loss.lam": lam}, "finished", "", [row], best_epoch=1))
    shares = parameter_importance(trials, space, "accuracy")
    assert sum(each.share for each in shares.values()) == pytest.approx(1)
    assert shares["loss.slope"].share > 0.8
    assert {each.trials for each in shares.values()} == {40}
    assert parameter_importance(trials[:7], space, "accuracy") == {}

    # A third parameter is active in half of the trials, and decides there.
    for i, each in enumerate(trials[:20]):
        row = {"epoch": 1, "valid_accuracy": i / 20, "valid_mean_accuracy": i / 20}
        trials[i] = replace(each, values={**each.values, "loss.true_ratio": 1 + i / 20}, history=[row])
    space["loss.true_ratio"] = Distribution(uniform=(1.0, 2.0), when={"loss.consistency": "none"})
    with_it = parameter_importance(trials, space, "accuracy")
    assert with_it["loss.true_ratio"].trials == 20 and with_it["loss.true_ratio"].share > 0.6
    assert with_it["loss.slope"].trials == 40
    assert sum(each.share for each in with_it.values() if each.trials == 40) == pytest.approx(1)
    assert "loss.true_ratio" not in parameter_importance(trials[13:], space, "accuracy"), "7 are too few"
