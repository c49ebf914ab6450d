"""`dvc exp run` here, in a folder apart and from the queue, and what MLflow shows of each experiment."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from patience import PATIENCE
from tiny_project import Project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project for experiments, of two epochs each, without Ray; they share the project's own MLflow store."""
    lab = prepared.copy(tmp_path_factory.mktemp("lab") / "project")
    lab.set({"train": {"epochs": 2}, "ray": {"num_workers": 0}})
    lab.commit("two epochs")
    return lab


def run_of(lab: Project, experiment: str) -> Run:
    """The MLflow run of a DVC experiment."""
    found = [run for run in lab.runs() if run.data.tags.get("dvc.exp_name") == experiment]
    assert len(found) == 1
    return found[0]


@pytest.mark.thorough
def test_an_experiment_here(lab: Project) -> None:
    lab.dvc("exp", "run", "--set-param", "train.lr=0.001", "--name", "slower", "train")
    run = run_of(lab, "slower")
    assert run.info.status == "FINISHED"
    assert run.data.params["train.lr"] == "0.001"
    assert run.data.tags["dvc.exp_baseline"] == lab.git("rev-parse", "HEAD")
    assert run.data.tags["nla.fingerprint"] == lab.read_json("run.json")["fingerprint"]
    assert "slower" in lab.dvc("exp", "show", "--csv")


@pytest.mark.thorough
def test_forced_it_trains_afresh(lab: Project) -> None:
    before, record = len(lab.runs()), lab.read_json("run.json")
    weights = lab.sha256("models/model.safetensors", "models/last.safetensors")
    lab.dvc("repro", "--force", "--single-item", "train")
    again = lab.read_json("run.json")
    assert again["fingerprint"] == record["fingerprint"] and again["mlflow_run_id"] != record["mlflow_run_id"]
    assert len(lab.runs()) == before + 1
    assert lab.sha256("models/model.safetensors", "models/last.safetensors") == weights


@pytest.fixture(scope="module")
def trained_lab(lab: Project) -> Project:
    """The same with a model."""
    lab.dvc("repro", "train")
    return lab


@pytest.mark.thorough
def test_an_experiment_apart(trained_lab: Project) -> None:
    lab = trained_lab
    here = lab.sha256("models/model.safetensors", "run.json", "params.yaml")
    lab.dvc(
        "exp", "run", "--temp", "--set-param", "train.seed=7", "--set-param", "ray.num_workers=1", "--name", "apart"
    )
    run = run_of(lab, "apart")
    assert run.info.status == "FINISHED" and run.data.params["train.seed"] == "7"
    assert run.data.tags["nla.fingerprint"] != lab.read_json("run.json")["fingerprint"]
    assert "test.accuracy" in run.data.metrics
    assert lab.sha256("models/model.safetensors", "run.json", "params.yaml") == here
    version = MlflowClient(lab.store).get_model_version_by_alias("nla-synthetic", "champion")
    assert version.run_id == run.info.run_id
    assert metrics_of(lab, "apart")["test"]["accuracy"] == run.data.metrics["test.accuracy"]
    assert (lab / ".logs/apart/train.log").is_file(), "the workspace has its own"


@pytest.mark.thorough
def test_an_experiment_from_the_queue(lab: Project) -> None:
    """What the experiment `apart` trained is there already: only its measuring is new."""
    before = len(lab.runs())
    lab.dvc("exp", "run", "--queue", "--set-param", "train.seed=7", "--set-param", "evaluate.bins=5", "--name", "later")
    lab.dvc("queue", "start")
    assert wait_for_queue(lab) == "Success", lab.try_dvc("queue", "logs", "later").text
    assert len(lab.runs()) == before
    assert metrics_of(lab, "later")["test"]["accuracy"] == run_of(lab, "apart").data.metrics["test.accuracy"]


def wait_for_queue(project: Project, seconds: float = PATIENCE) -> str:
    """The state in which the only task of the queue ends."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        last = project.dvc("queue", "status").splitlines()
        states = [word for line in last for word in ("Success", "Failed") if word in line.split()]
        if states:
            return states[0]
        time.sleep(1)
    return "no end in sight"


def metrics_of(project: Project, experiment: str) -> dict[str, Any]:
    """reports/metrics.json as the experiment left it."""
    refs = project.git("for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
    ref = next(ref for ref in refs if ref.endswith(f"/{experiment}"))
    return json.loads(project.git("show", f"{ref}:reports/metrics.json"))
