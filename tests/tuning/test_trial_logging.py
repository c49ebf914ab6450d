"""What a search shows while it runs: lines in the console, and runs of trials in a real MLflow store."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_parts import new_store
from search_parts import template

from nla.config.tune import Distribution
from nla.tracking import MlflowTracker
from nla.tracking.store import experiment
from nla.tuning.results import Trial
from nla.tuning.trial_logging import MlflowTrialLogger, progress_table

SPACE = {"loss.lam": Distribution(uniform=(0.0, 1.0)), "loss.true_mean.0": Distribution(uniform=(0.0, 1.0))}
FIRST, LAST = {"loss.lam": 0.4, "loss.true_mean.0": 0.3}, {"loss.lam": 0.48, "loss.true_mean.0": 0.24}


@pytest.mark.parametrize("fixed", [True, False])
def test_run_has_the_last_values_of_its_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixed: bool) -> None:
    """PBT changes them during a trial; a parameter of MLflow can be set only once."""
    uri = new_store(tmp_path, monkeypatch)
    tracker = MlflowTracker(uri, system_metrics=False)
    parent = tracker.start("search", {}, {})
    logger = MlflowTrialLogger(uri, parent, template("s"), SPACE, fixed=fixed)
    row = {"epoch": 1.0, "valid_accuracy": 0.5, "valid_mean_accuracy": 0.4, "valid_macro_f1": 0.3}
    logger.on_trial_start("a", FIRST)
    logger.on_epoch_end("a", row, 0.5)
    logger.on_trial_start("a", FIRST if fixed else LAST)
    logger.on_trial_end("a")
    logger.finalize([Trial(0, "a", FIRST if fixed else LAST, "finished", "", [row], best_epoch=1)])
    tracker.finish()
    client = MlflowClient(uri)
    (run,) = [run for run in client.search_runs([experiment(client).experiment_id]) if run.info.run_id != parent]
    expected = ("0.4", "[0.3, 0.5]") if fixed else ("0.48", "[0.24, 0.5]")
    assert (run.data.params["loss.lam"], run.data.params["loss.true_mean"]) == expected
    assert run.data.params["train.batch_size"] == "16"
    assert run.data.params["loss.slope"] == "15.0", "the published value, which params.yaml leaves null"
    assert float(run.data.params["loss.consistency_weight"]) == 1 - float(expected[0]), "it follows lam"


def test_one_line_per_ended_trial(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_table(2, 3, "accuracy") as table:
        for trial, accuracy in (("a", 0.5), ("b", 0.25)):
            table.on_trial_start(trial, {})
            table.on_epoch_end(trial, {"epoch": 1.0, "valid_accuracy": accuracy, "valid_mean_accuracy": 0.0}, accuracy)
            table.on_trial_end(trial)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trial")]
    assert lines[0].startswith("trial   1/2  accuracy 50.00%, ran 1 of 3 epochs; best so far 50.00%; ")
    assert lines[1].startswith("trial   2/2  accuracy 25.00%, ran 1 of 3 epochs; best so far 50.00%; ")


def test_the_epoch_that_counts_need_not_be_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_table(1, 4, "both") as table:
        table.on_trial_start("a", {})
        for epoch, score in enumerate((0.36, 0.61, 0.61, 0.61), 1):
            table.on_epoch_end("a", {"epoch": float(epoch), "valid_accuracy": 0.5, "valid_mean_accuracy": 0.47}, score)
        table.on_trial_end("a")
    (line,) = printed_lines(capsys)
    assert line.startswith("trial   1/1  mean of both accuracies 61.00%, ran 4 of 4 epochs; ")


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_failed_trial_has_no_score(capsys: pytest.CaptureFixture[str], epochs: int) -> None:
    with progress_table(2, 4, "accuracy") as table:
        for trial, failed in (("a", True), ("b", False)):
            table.on_trial_start(trial, {})
            for epoch in range(1, epochs + 1 if failed else 2):
                accuracy = 0.75 if failed else 0.5
                row = {"epoch": epoch, "valid_accuracy": accuracy, "valid_mean_accuracy": 0.0}
                table.on_epoch_end(trial, row, accuracy)
            table.on_trial_end(trial, failed)
    first, second = printed_lines(capsys)
    assert first.startswith("trial   1/2  failed; ") and "best so far" not in first
    assert second.startswith("trial   2/2  accuracy 50.00%, ran 1 of 4 epochs; best so far 50.00%; ")


def printed_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("trial")]


def test_resumed_search_counts_restored_trials(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_table(3, 2, "accuracy") as table:
        table.on_trial_restored("a", 2, 0.75)
        table.on_trial_restored("b", 0, 0.0)
        table.on_trial_start("c", {})
        table.on_epoch_end("c", {"epoch": 1.0, "valid_accuracy": 0.25, "valid_mean_accuracy": 0.0}, 0.25)
        table.on_trial_end("c")
    (line,) = printed_lines(capsys)
    assert line.startswith("trial   3/3  accuracy 25.00%, ran 1 of 2 epochs; best so far 75.00%")


def test_retried_trial_counts_once_and_total_grows_if_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_table(2, 1, "accuracy") as table:
        for trial in ("a", "b", "b", "c"):  # b's node was lost
            table.on_trial_start(trial, {})
            table.on_trial_end(trial)
    assert [line.split()[1] for line in printed_lines(capsys)] == ["1/2", "2/2", "2/2", "3/3"]


def test_time_left_is_limited_by_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_table(100, 1, "accuracy", lambda: 120.0) as table:
        table.started_at -= 600.0  # ten minutes per trial
        table.on_trial_start("a", {})
        table.on_trial_end("a")
    assert printed_lines(capsys)[0].endswith("; about 2 min left")
