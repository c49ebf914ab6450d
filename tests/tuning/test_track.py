"""The runs of trials in a real MLflow store."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_parts import new_store
from sweep_parts import template

from nla.config.tune import Distribution
from nla.tracking import MlflowTracker
from nla.tracking.store import experiment
from nla.tuning.reporters import MlflowTrials
from nla.tuning.results import Trial

SPACE = {"loss.lam": Distribution(uniform=(0.0, 1.0)), "loss.true_mean.0": Distribution(uniform=(0.0, 1.0))}
FIRST, LAST = {"loss.lam": 0.4, "loss.true_mean.0": 0.3}, {"loss.lam": 0.48, "loss.true_mean.0": 0.24}


@pytest.mark.parametrize("fixed", [True, False])
def test_a_run_has_the_values_that_its_trial_ended_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixed: bool
) -> None:
    """PBT changes them on the way; MLflow takes a parameter once."""
    uri = new_store(tmp_path, monkeypatch)
    tracker = MlflowTracker(uri, system_metrics=False)
    parent = tracker.start("search", {}, {})
    record = MlflowTrials(uri, parent, template("s"), SPACE, fixed=fixed)
    row = {"epoch": 1.0, "valid_accuracy": 0.5, "valid_mean_accuracy": 0.4}
    record.started("a", FIRST)
    record.epoch("a", row)
    record.started("a", FIRST if fixed else LAST)
    record.ended("a")
    record.settle([Trial(0, "a", FIRST if fixed else LAST, "finished", "", [row])], "accuracy")
    tracker.finish()
    client = MlflowClient(uri)
    (run,) = [run for run in client.search_runs([experiment(client).experiment_id]) if run.info.run_id != parent]
    expected = ("0.4", "[0.3, 0.5]") if fixed else ("0.48", "[0.24, 0.5]")
    assert (run.data.params["loss.lam"], run.data.params["loss.true_mean"]) == expected
    assert run.data.params["train.batch_size"] == "16"
