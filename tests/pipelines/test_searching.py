"""Stage `tune` with trials: killed, resumed, extended, followed by training, and logged to MLflow."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow_parts import mlflow_server
from patience import PATIENCE
from ruamel.yaml import YAML
from tiny_project import Project, survivors

from nla.config.base import flatten

pytestmark = pytest.mark.slow
EPOCHS = 4  # one more than the number of checkpoints per trial
SINGLE = {"max_concurrent_trials": 1, "num_workers": 0}  # each of Ray's processes takes seconds to import
SEARCH = {"num_samples": 3, "epochs": EPOCHS, "scheduler": "none"}


@pytest.fixture(scope="module")
def searched(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A search that was interrupted, then killed with its whole process group, and resumed."""
    project = prepared.copy(tmp_path_factory.mktemp("searched") / "project")
    project.set({"tune": SEARCH, "train": {"epochs": 1}, "ray": SINGLE})
    interrupted = project.start_dvc("repro", "tune")
    interrupted.wait_for(r"trial +1/3")
    os.killpg(interrupted.process.pid, signal.SIGINT)  # like Ctrl-C
    assert interrupted.process.wait(PATIENCE) != 0 and "`dvc repro` resumes" in interrupted.text
    assert not (project / "best.yaml").exists()
    first = project.start_dvc("repro", "tune")
    first.wait_for("full logs: ")
    time.sleep(5)  # at an arbitrary point
    family = first.family()
    first.kill(group=True)
    assert not (project / "best.yaml").exists()
    assert not survivors(family, 30.0)
    printed = project.dvc("repro", "tune")
    assert "is best with" in printed and "Traceback" not in printed and "DEBUG" not in first.text + printed
    return project


def rows(project: Project) -> list[dict[str, Any]]:
    return pq.read_table(project / "reports/tune/trials.parquet").to_pylist()


def best(project: Project) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(project / "best.yaml")


def runs(project: Project) -> tuple[Run, list[Run]]:
    """The run of the search, and the runs of its trials."""
    tagged = [run for run in project.runs() if run.data.tags.get("dvc.stage") == "tune" or "nla.sweep" in run.data.tags]
    (parent,) = [run for run in tagged if "nla.sweep" not in run.data.tags]
    return parent, [run for run in tagged if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]


@pytest.mark.thorough
def test_every_trial_is_in_the_table(searched: Project) -> None:
    table = rows(searched)
    assert [(row["trial"], row["status"], row["epochs"]) for row in table] == [
        (i, "finished", EPOCHS) for i in range(3)
    ]
    assert table[0]["loss.lam"] == 0.5 and table[0]["loss.slope"] == 15.0
    (chosen,) = [row for row in table if row["chosen"]]
    assert chosen["accuracy"] == max(row["accuracy"] for row in table)
    assert flatten(best(searched)) == {name: value for name, value in chosen.items() if name.startswith("loss.")}
    assert {path.stem for path in (searched / "reports/tune/figures").iterdir()} == {"parallel", "best_so_far"}
    assert not searched.unfinished()


@pytest.mark.thorough
def test_mlflow_has_a_nested_run_per_trial(searched: Project) -> None:
    parent, nested = runs(searched)
    assert parent.info.status == "FINISHED"
    table = {row["id"]: row for row in rows(searched)}
    assert {run.data.tags["nla.trial"] for run in nested} == set(table) and len(nested) == 3
    client = MlflowClient(searched.store)
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id, "tune")}
    assert artifacts == {"tune/best.yaml", "tune/trials.parquet"}
    for run in nested:
        row = table[run.data.tags["nla.trial"]]
        assert run.info.status == "FINISHED" and run.data.tags["nla.trial_status"] == "finished"
        assert float(run.data.params["loss.lam"]) == row["loss.lam"]
        assert run.data.metrics["best.accuracy"] == row["accuracy"]
        epochs = client.get_metric_history(run.info.run_id, "valid_accuracy")
        assert sorted(metric.step for metric in epochs) == list(range(1, EPOCHS + 1))
        assert run.info.end_time < parent.info.end_time - 1000


@pytest.mark.thorough
def test_other_seeds_and_epochs_of_training_start_no_search(searched: Project) -> None:
    assert "Data and pipelines are up to date." in searched.dvc("repro", "tune")
    searched.set({"train": {"seed": 3, "epochs": 2}, "ray": {"max_concurrent_trials": 2}})
    assert "Data and pipelines are up to date." in searched.dvc("repro", "tune")


@pytest.mark.thorough
def test_more_samples_extend_the_search_and_training_uses_the_best(searched: Project, tmp_path: Path) -> None:
    project = searched.copy(tmp_path / "project")
    before = rows(project)
    project.set({"tune": {"num_samples": 4}})
    project.dvc("repro", "train")
    after = rows(project)
    assert [row["id"] for row in after[:3]] == [row["id"] for row in before] and len(after) == 4
    assert project.read_json("run.json")["params"]["loss"]["lam"] == best(project)["loss"]["lam"]


@pytest.mark.thorough
def test_result_of_an_earlier_search_is_reused(prepared: Project, searched: Project, tmp_path: Path) -> None:
    project = prepared.copy(tmp_path / "project")
    project.set({"tune": {"from": str(searched / "best.yaml")}})
    project.dvc("repro", "tune")
    assert best(project) == best(searched) and rows(project) == []


def failing(prepared: Project, folder: Path, *rates: float, **tune: Any) -> Project:
    """A project whose grid of learning rates has some with which the loss diverges."""
    project = prepared.copy(folder / "project")
    search = {"num_samples": 1, "epochs": 1, "scheduler": "none", "space": None, **tune}
    project.set({"tune": search, "train": {"lr": rates[0], "schedule": "constant"}, "ray": SINGLE})
    project.set({"tune": {"space": {"train": {"lr": {"grid": list(rates)}}}}})
    return project


@pytest.mark.thorough
def test_if_all_trials_fail_the_table_has_the_reasons(prepared: Project, tmp_path: Path) -> None:
    project = failing(prepared, tmp_path, 1e29, 2e29)
    done = project.try_stage("tune")
    assert done.code == 1 and "Traceback" not in done.text
    assert "no trial of the search succeeded: the training loss" in done.err and "is not finite" in done.err
    assert done.out.count(" failed: the training loss") == 2
    assert [(row["status"], row["chosen"], row["train.lr"]) for row in rows(project)] == [
        ("failed", False, 1e29),
        ("failed", False, 2e29),
    ]
    assert all("is not finite" in row["reason"] for row in rows(project))
    assert not (project / "best.yaml").exists()


@pytest.mark.thorough
def test_more_failed_trials_than_allowed_fail_the_search(prepared: Project, tmp_path: Path) -> None:
    project = failing(prepared, tmp_path, 0.003, 1e29, max_failed=0)
    done = project.try_stage("tune")
    assert done.code == 1 and "tune.max_failed: 1 of 2 trials failed (at most 0 may)" in done.err
    assert [row["status"] for row in rows(project)] == ["finished", "failed"]
    project.set({"tune": {"max_failed": 1}})
    again = project.try_stage("tune")
    assert again.code == 0 and best(project) == {"train": {"lr": 0.003}}, "allowed now, without another search"


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.thorough
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_compare_page_shows_the_trials(searched: Project, tmp_path: Path) -> None:
    _, nested = runs(searched)
    ids = json.dumps([run.info.run_id for run in nested])
    with mlflow_server(tmp_path, searched.store) as uri:
        url = f"{uri}/#/compare-runs?runs={quote(ids)}&experiments={quote(json.dumps([nested[0].info.experiment_id]))}"
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/chromium"]
        budget = "--virtual-time-budget=60000"
        page = subprocess.run(
            [str(CHROMIUM), *options, budget, "--dump-dom", url], capture_output=True, text=True, timeout=PATIENCE
        ).stdout
    for run in nested:
        assert run.info.run_name in page
        assert run.data.params["loss.slope"] in page
    assert "loss.lam" in page and "best.accuracy" in page
    plot = page[: page.index("Run details")]
    assert "valid_accuracy" in plot and "train_loss" not in plot, "compared on validation, as in the search"
