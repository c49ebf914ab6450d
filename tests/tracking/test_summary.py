"""What MLflow shows of a result: few metrics, a note, and the page that its UI opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import load_dict
from mlflow_parts import new_store

from nla.tracking import MlflowTracker, configure
from nla.tracking.store import KIND, experiment
from nla.tracking.summary import headline_metrics, note

JOY = {"recall": 0.5, "recall_low": 0.4, "recall_high": 0.6, "precision": 0.25, "f1": 1 / 3, "support": 1200}
SPLIT = {"rows": 1500, "accuracy": 0.5, "accuracy_low": 0.45, "accuracy_high": 0.55, "nll": 1.5, "votes": {"rows": 3}}
METRICS: dict[str, Any] = {
    "protocol": "clean | labels",
    "epoch": 3,
    "test": {**SPLIT, "classes": {"joy | <b>": JOY, "fear": {**JOY, "recall": None}}},
    "valid": {"accuracy": 0.75, "nll": None, "classes": {"joy": JOY}},
    "last": {"test": {**SPLIT, "classes": {"joy": JOY}}},
    "one_view": {"test": {"accuracy": 0.4}},
}


def test_runs_are_compared_by_few_figures() -> None:
    """Of the some three hundred of the file; those of a class are for recall on test alone."""
    assert headline_metrics(METRICS) == {
        "test.accuracy": 0.5,
        "test.nll": 1.5,
        "test.classes.joy | <b>.recall": 0.5,
        "test.classes.fear.recall": None,
        "valid.accuracy": 0.75,
        "valid.nll": None,
    }


def test_the_note_has_tables_of_splits_and_classes() -> None:
    lines = note(METRICS).splitlines()
    assert lines[:4] == [
        "|  | test | valid |",
        "|---|---|---|",
        "| accuracy | 50.00% (45.00% to 55.00%) | 75.00% |",
        "| NLL | 1.5000 |  |",
    ]
    assert r"| joy \| \<b\> | 50.00% (40.00% to 60.00%) | 25.00% | 0.3333 | 1,200 |" in lines
    assert lines[-1] == r"Protocol: clean \| labels."
    assert note({"test": {"accuracy": 0.5}}).startswith("|  | test |\n|---|---|\n| accuracy | 50.00% |")


def test_a_run_has_the_note_and_a_file_with_all_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = new_store(tmp_path, monkeypatch)
    tracker = MlflowTracker(uri, system_metrics=False)
    run_id = tracker.start("x", {}, {})
    tracker.log_result(METRICS, 3)
    run = MlflowClient(uri).get_run(run_id)
    names = {"test.accuracy", "test.nll", "valid.accuracy", "test.classes.joy _ _b_.recall"}
    assert set(run.data.metrics) == names
    assert run.data.tags["mlflow.note.content"] == note(METRICS)
    assert load_dict(f"{run.info.artifact_uri}/metrics.json") == json.loads(json.dumps(METRICS))


def test_the_ui_opens_on_training_runs_unless_the_user_has_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(new_store(tmp_path, monkeypatch))
    found = experiment(client)
    assert found.tags[KIND] == "custom_model_development"
    client.set_experiment_tag(found.experiment_id, KIND, "finetuning")
    configure(tmp_path)
    assert experiment(client).tags[KIND] == "finetuning"
