"""What `train` plans, what it logs to MLflow afterwards, and what it deletes."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_parts import ROOT, new_store, write_samples

from nla.config.base import flatten
from nla.config.ray import RayConfig
from nla.data.schema import Preparation
from nla.errors import ConfigError
from nla.ray_cluster import Cluster
from nla.tracking import MlflowTracker
from nla.training.callbacks import MetricRecorder
from nla.training.checkpoint import Progress, read_progress, write_checkpoint
from nla.workflow.runs import RunFolder
from pipelines import train

NOISE = {"kind": "asymmetric", "rate": 0.3, "exact": True, "mapping": {"fear": "surprise"}, "valid": False}
DATA = {"label_rule": "votes", "image_size": 16, "imbalance_factor": 10, "train_rows": None, "noise": NOISE}
OTHER_DATA = {"color": "grey", "contempt": True, "valid_fraction": 0.1, "drop_leaks": False, "seed": 3}
PARAMS: dict[str, Any] = {
    "model": {"width": 4},
    "train": {"batch_size": 8},
    "data": {"source": "ferplus", "label_rule": "argmax", "image_size": 48, "noise": {"rate": 0.6}},  # edited since
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy as DVC's experiments run in, committed, with a project of another commit that DVC_ROOT names."""
    copy, project = tmp_path / "copy", tmp_path / "project"
    for folder in (copy, project):
        (folder / "data").mkdir(parents=True)
        (folder / "data/note.md").write_text(folder.name)
        git(folder, "init", "--quiet")
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--message", folder.name)
    for code in ("nla", "pipelines"):
        (copy / code).symlink_to(ROOT / code)
    for name in ("train", "valid"):
        preparation = Preparation.model_validate(DATA | OTHER_DATA)
        write_samples(copy / f"data/{name}.parquet", [0, 1, 2, 0] * 8, preparation=preparation)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(project))
    return copy


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.check_output(["git", "-C", str(folder), *who, *words], text=True).strip()


def plan_of(workspace: Path, **params: Any) -> train.Plan:
    return train.make_plan({**PARAMS, **params}, workspace.with_name("project"), RayConfig())


def test_a_plan_names_the_commit_of_the_code_that_runs(workspace: Path) -> None:
    """Not that of the folder in which it runs, which can be a project of its own, such as video/."""
    assert git(workspace, "rev-parse", "HEAD") != (head := git(ROOT, "rev-parse", "HEAD"))
    assert plan_of(workspace).tags["mlflow.source.git.commit"] == head


def test_runs_can_be_told_apart_by_their_data(workspace: Path) -> None:
    plan = plan_of(workspace)
    assert plan.name == f"synthetic-nla-{plan.job.fingerprint[:6]}"
    assert plan.params["data"] == {**DATA, "source": "synthetic"}, "of the tables, though params.yaml was edited since"
    assert plan.params["model"]["width"] == 4


def test_a_run_is_named_and_logged_by_the_values_in_force(workspace: Path) -> None:
    plan, same, other = (plan_of(workspace, loss={"lam": lam}) for lam in (None, 0.5, 0.4))
    assert plan.params["loss"]["lam"] == 0.5 and plan.params["loss"]["consistency"] == "jensen_shannon"
    assert None not in flatten(plan.params["loss"]).values()
    assert plan.job.fingerprint == same.job.fingerprint != other.job.fingerprint
    elr = plan_of(workspace, loss={"name": "elr", "options": {"lam": 2.0}})
    assert elr.params["loss"] == {"name": "elr", "variant": "paper", "options": {"lam": 2.0, "beta": 0.7}}


def test_a_table_of_unknown_preparation_is_described_by_its_source(workspace: Path) -> None:
    for name in ("train", "valid"):
        write_samples(Path(f"data/{name}.parquet"), [0, 1, 2, 0] * 8, source="folder")
    assert plan_of(workspace).params["data"] == {"source": "folder"}


@pytest.mark.parametrize(("loss", "said"), [("ce", "loss ce\n"), ("nla", "loss nla (paper)\n")])
def test_the_variant_is_said_of_the_loss_that_has_one(
    workspace: Path, capsys: pytest.CaptureFixture[str], loss: str, said: str
) -> None:
    plan_of(workspace, loss={"name": loss})
    assert said in capsys.readouterr().out


def test_views_are_in_the_card_and_change_nothing_else(workspace: Path) -> None:
    """So that a run is not trained again for other views, but whatever uses the model has the same ones."""
    plan, other = plan_of(workspace), plan_of(workspace, evaluate={"mirror": False, "shift": 2})
    assert (plan.job.fingerprint, plan.params) == (other.job.fingerprint, other.params)
    assert train.card(plan)["views"] == {"mirror": True, "shift": 0}
    assert train.card(other)["views"] == {"mirror": False, "shift": 2}
    read = (ROOT / "dvc.yaml").read_text().split("cmd: python -m pipelines.train")[1].split("outs:")[0]
    assert "- evaluate.mirror" in read and "- evaluate.shift" in read


@pytest.mark.parametrize(
    ("best", "said"),
    [
        ({"loss": {"lam": "x"}}, r"^best\.yaml:\n  loss\.lam: must be a valid number \(got 'x'\)"),
        ({"loss": {"name": "cee"}}, r"^best\.yaml: loss\.name: unknown method 'cee'"),
    ],
)
def test_a_wrong_key_of_a_search_names_its_file(best: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        train.searched(PARAMS, best)
    with pytest.raises(ConfigError, match=r"^params\.yaml:\n  train\.lr"):
        train.searched({**PARAMS, "train": {"lr": -1.0}}, {"loss": {"lam": 0.5}})


def test_the_card_describes_the_network(workspace: Path) -> None:
    plan = plan_of(workspace)
    assert train.card(plan).items() >= plan.job.build().describe().items()


def test_mlflow_gets_what_it_missed(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server went away after two of three epochs; nobody closed the run."""
    uri, plan = new_store(tmp_path, monkeypatch), plan_of(workspace)
    client, run = MlflowClient(uri), RunFolder(tmp_path, plan.job.fingerprint)
    tracker = MlflowTracker(uri, system_metrics=False)
    run_id = tracker.start(plan.name, {}, {})
    run.set_mlflow_run_id(uri, run_id)
    for epoch in (1, 2):
        tracker.log_epoch({"train_loss": 9 - epoch}, epoch)
    facts = {**plan.job.facts, "precision": "fp32", "workers": 2}
    progress = replace(Progress(run.fingerprint, 3, facts=facts), epochs_done=3)
    progress.history.extend({"epoch": epoch, "train_loss": 9 - epoch} for epoch in (1, 2, 3))
    run.result.mkdir()
    write_checkpoint(run.result, progress, {})

    train.complete_tracking(plan, run, uri)
    history = client.get_metric_history(run_id, "train_loss")
    assert sorted((metric.step, metric.value) for metric in history) == [(1, 8), (2, 7), (3, 6)]
    logged = client.get_run(run_id)
    assert logged.info.status == "FINISHED"
    known = {name: logged.data.params[name] for name in ("facts.precision", "facts.workers", "facts.first_weights")}
    assert known == {"facts.precision": "fp32", "facts.workers": "2", "facts.first_weights": "null"}
    assert logged.data.params["data.noise.rate"] == "0.3"

    train.complete_tracking(plan, run, uri)
    assert client.get_run(run_id).info.end_time == logged.info.end_time, "a finished run is left as it is"


@pytest.mark.thorough
def test_checkpoints_in_a_shared_storage_end_with_their_training(
    workspace: Path, tmp_path: Path, ray_cluster: Cluster
) -> None:
    plan = plan_of(workspace, train={"batch_size": 8, "epochs": 1})
    run, storage = RunFolder(tmp_path, plan.job.fingerprint), tmp_path / "shared"
    run.path.mkdir(parents=True)
    config = RayConfig(use_gpu=False, cpus_per_worker=1)
    train.train_on_ray(plan, run, config, str(storage), "", MetricRecorder(lambda row, epoch: None))
    assert run.finished and len(read_progress(run.result).history) == 1
    assert (storage / run.fingerprint).is_dir() and not [path for path in storage.rglob("*") if path.is_file()]
