"""`register` belongs to one MLflow store: it happens in each, though dvc.lock and the run cache say that it is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML
from tiny_project import PIPELINE, Finished, Project, stage_outs

pytestmark = pytest.mark.slow
OTHER_STAGES = [name for name in PIPELINE["stages"] if name != "register"]


def stages_run(printed: str) -> list[str]:
    """Names of the stages that DVC ran."""
    lines = [line for line in printed.splitlines() if line.startswith("Running stage")]
    return [line.split("'")[1] for line in lines]


def use_cache_of(project: Project, clone: Project) -> None:
    """A cache that several clones share, with its run cache.

    DVC keeps stages with a record in git, as `ingest` has, out of the run cache: `dvc checkout` gets their outs.
    """
    clone.dvc("config", "--local", "cache.dir", str(project / ".dvc/cache"))
    assert (project / ".dvc/cache/runs").is_dir()
    clone.dvc("checkout")


def use_remote_of(project: Project, clone: Project) -> None:
    """A remote storage, which `dvc push` gave the outs and the run cache."""
    remote = str(clone.root.with_name("remote"))
    pusher = project.copy(clone.root.with_name("pusher"))
    for one in (pusher, clone):
        one.dvc("remote", "add", "--local", "--default", "storage", remote)
    pusher.dvc("push", "--run-cache")
    clone.dvc("pull", "--run-cache")


@pytest.mark.thorough
@pytest.mark.parametrize("connect", [use_cache_of, use_remote_of])
def test_a_fresh_clone_registers_and_does_nothing_else(
    connect: Callable[[Project, Project], None], finished: Finished, tmp_path: Path
) -> None:
    project = finished.project
    clone = project.clone(tmp_path / "clone")
    assert not (clone / "reports/registered.json").exists() and not (clone / "mlflow.db").exists()
    connect(project, clone)
    printed = clone.dvc("repro")
    assert stages_run(printed) == ["register"]
    for name in OTHER_STAGES:
        for out in stage_outs(name):
            assert (clone / out).exists()
            if (clone / out).is_file():
                assert clone.sha256(out) == project.sha256(out)
    assert_registered_for(project, clone)
    assert clone.git("status", "--porcelain") in ("", "M dvc.lock")
    assert locked(clone) == locked(project), "but for the record, another in each store"
    assert stages_run(clone.dvc("repro")) == []


def locked(project: Project) -> dict[str, Any]:
    """The stages of dvc.lock without the record of `register`."""
    stages: dict[str, Any] = YAML(typ="safe", pure=True).load(project / "dvc.lock")["stages"]
    del stages["register"]["outs"]
    return stages


def assert_registered_for(project: Project, clone: Project) -> None:
    """The clone's store has the model as champion, and a run that stands for the one that trained it."""
    trained = project.read_json("run.json")["mlflow_run_id"]
    record = clone.read_json("reports/registered.json")
    assert record["decision"] == "champion" and record["run_id"] != trained
    assert f"This store lacks the run {trained}: {record['run_id']} repeats its params" in record["reason"]
    assert record["store"] != project.read_json("reports/registered.json")["store"]
    client = MlflowClient(clone.store)
    run = client.get_run(record["run_id"])
    assert run.data.tags["nla.stands_for"] == trained
    assert run.data.metrics["test.accuracy"] == project.read_json("reports/metrics.json")["test"]["accuracy"]
    champion = client.get_model_version_by_alias("nla-synthetic", "champion")
    assert (int(champion.version), champion.run_id) == (record["version"], record["run_id"])
    assert champion.tags["nla.weights_sha256"] == project.sha256("models/model.safetensors")[0]


@pytest.mark.thorough
def test_another_store_is_given_the_model_by_hand(finished: Finished, tmp_path: Path) -> None:
    """Where the record of the one store lies there, DVC sees nothing to do: -f -s register is said in the docs."""
    project = finished.project.copy(tmp_path / "project")
    other = f"sqlite:///{tmp_path}/other/mlflow.db"
    assert stages_run(project.dvc("repro", MLFLOW_TRACKING_URI=other)) == []
    printed = project.dvc("repro", "--force", "--single-item", "register", MLFLOW_TRACKING_URI=other)
    assert "nla-synthetic version 1 is champion" in printed
    assert (
        project.read_json("reports/registered.json")["store"]
        != finished.project.read_json("reports/registered.json")["store"]
    )
