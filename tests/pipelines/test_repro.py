"""The whole way: `dvc repro` once on a tiny set, and what DVC and MLflow show of it afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from patience import PATIENCE
from tiny_project import PIPELINE, SECRETS, TINY, Finished, Project, stage_outs, user_environment

from nla.config.base import flatten
from nla.serving import Predictor

pytestmark = pytest.mark.slow
EPOCHS = TINY["train"]["epochs"]
UP_TO_DATE = "Data and pipelines are up to date."
CURVES = (
    "train_loss",
    "valid_accuracy",
    "valid_mean_accuracy",
    "valid_macro_f1",
    "valid_nll",
    "lr",
    "images_per_second",
)
FIGURES = (
    "ambiguous",
    "confusion",
    "curves",
    "reliability",
    "reliability_calibrated",
    "risk_coverage",
    "recall",
    "suspects",
    "triangle",
    "wrong",
)
PREDICT = """
import json, sys
import mlflow, pandas as pd
images = [open(path, "rb").read() for path in sys.argv[1:]]
model = mlflow.pyfunc.load_model("models:/nla-synthetic@champion")
print(json.dumps(model.predict(pd.DataFrame({"image": images})).to_dict("list")))
"""


@pytest.fixture(scope="module")
def project(finished: Finished) -> Project:
    return finished.project


@pytest.fixture(scope="module")
def client(project: Project) -> MlflowClient:
    return MlflowClient(project.store)


@pytest.fixture(scope="module")
def run(project: Project, client: MlflowClient) -> Run:
    return client.get_run(project.read_json("run.json")["mlflow_run_id"])


def steps(client: MlflowClient, run: Run, key: str) -> list[int]:
    return sorted(metric.step for metric in client.get_metric_history(run.info.run_id, key))


@pytest.mark.thorough
def test_files_from_the_future_or_the_past_run_nothing_again(project: Project, tmp_path: Path) -> None:
    """As after the clock was set back, or a copy that keeps no times: contents count."""
    copy = project.copy(tmp_path / "project")
    for number, path in enumerate(sorted(path for path in copy.root.rglob("*") if path.is_file())):
        if ".git" not in path.parts:
            os.utime(path, ((4e9, 1e9)[number % 2],) * 2)
    printed = copy.dvc("repro")
    assert "Running stage" not in printed and UP_TO_DATE in printed


def test_every_stage_ran_once_and_said_what_counts(finished: Finished) -> None:
    printed = finished.printed
    assert [line for line in printed.splitlines() if line.startswith("Running stage")] == [
        f"Running stage '{name}':" for name in ("train", "evaluate", "register")
    ]
    for name in ("ingest", "prepare", "audit", "tune"):
        assert f"Stage '{name}' didn't change, skipping" in printed
    assert "training starts FROM SCRATCH" in printed
    assert all(f"epoch {epoch:3d}/{EPOCHS}  loss " in printed for epoch in range(1, EPOCHS + 1))
    assert "test accuracy " in printed and "Bayes accuracy " in printed
    assert "nla-synthetic version 1 is champion: there was none" in printed


def noise(printed: str) -> list[str]:
    """Lines that no person needs."""
    signs = ("Traceback", "Warning", "WARNING", "INFO", "alembic", "usage statistics", "(pid=", "deprecated")
    return [line for line in printed.splitlines() if any(sign in line for sign in signs)]


def test_it_is_quiet(finished: Finished) -> None:
    assert not noise(finished.printed)


def test_no_password_is_shown_or_stored(finished: Finished) -> None:
    """Nor in the files of any tool: logs, run.json, dvc.lock, reports, the store, checkpoints, DVC's cache."""
    read = 0
    for path in finished.project.root.rglob("*"):
        if path.is_file() and path != finished.project / ".git/config":
            content = path.read_bytes()
            assert not [name for name, secret in SECRETS.items() if secret.encode() in content], path
            read += 1
    assert read > 300
    assert not [name for name, secret in SECRETS.items() if secret in finished.printed]


def test_all_outs_are_there_and_git_sees_nothing_else(finished: Finished, prepared: Project) -> None:
    project = finished.project
    assert not [out for name in PIPELINE["stages"] for out in stage_outs(name) if not (project / out).exists()]
    assert not project.unfinished()
    assert project.git("status", "--porcelain") == ""
    new = set(project.git("diff", "--name-only", "HEAD~1").splitlines())
    reports = ("audit/summary", "ingest", "metrics", "prepare")
    assert new == {"dvc.lock", "best.yaml", *(f"reports/{name}.json" for name in reports)}


def test_metrics_have_the_promised_names(project: Project) -> None:
    metrics = project.read_json("reports/metrics.json")
    for split in ("test", "valid"):
        for name in ("accuracy", "mean_accuracy", "macro_f1", "nll", "ece"):
            assert 0 <= metrics[split][name] < 10
            assert 0 <= metrics["last"][split][name] < 10
    assert 0.7 < metrics["test"]["bayes_accuracy"] <= 1
    assert metrics["test"]["bayes_ratio"] == pytest.approx(
        metrics["test"]["accuracy"] / metrics["test"]["bayes_accuracy"]
    )
    assert "clean labels" in metrics["protocol"]
    assert abs(metrics["one_view"]["test"]["accuracy"] - metrics["test"]["accuracy"]) < 0.2


def test_each_image_is_listed_with_what_the_model_says_of_it(project: Project) -> None:
    for split in ("test", "valid"):
        listed = pq.read_table(project / f"reports/predictions/{split}.parquet").to_pandas()
        accuracy = project.read_json("reports/metrics.json")[split]["accuracy"]
        assert (listed.label == listed.predicted).mean() == pytest.approx(accuracy, abs=1e-9)
        assert listed.row.tolist() == pq.read_table(project / f"data/{split}.parquet")["row"].to_pylist()
    doubted = pq.read_table(project / "reports/suspects.parquet").to_pandas()
    assert len(doubted) == pq.read_metadata(project / "data/train.parquet").num_rows
    assert doubted.p_label.is_monotonic_increasing and "is_flipped" not in doubted


def test_metrics_are_those_of_the_model_on_disk(project: Project) -> None:
    """Another way to the same number: the Predictor on the encoded images of the test table."""
    table = pq.read_table(project / "data/test.parquet")
    classes = Predictor.load(project / "models").classes
    found = Predictor.load(project / "models").predict([image["bytes"] for image in table["image"].to_pylist()])
    labels = [classes[label] for label in table["label"].to_pylist()]
    right = np.mean([a == b for a, b in zip(found.label, labels, strict=True)])
    assert right == pytest.approx(project.read_json("reports/metrics.json")["test"]["accuracy"], abs=1.5 / len(labels))


def test_run_json_names_the_run_and_the_fingerprint(project: Project, run: Run) -> None:
    record = project.read_json("run.json")
    assert run.info.run_id == record["mlflow_run_id"]
    assert run.data.tags["nla.fingerprint"] == record["fingerprint"]
    assert project.read_json("models/model.json")["fingerprint"] == record["fingerprint"]
    assert [path.name for path in (project / ".runs").iterdir()] == [record["fingerprint"]]
    assert record["params"]["train"]["epochs"] == EPOCHS


def test_the_one_run_is_finished_with_curves_params_and_tags(project: Project, client: MlflowClient, run: Run) -> None:
    assert [found.info.run_id for found in project.runs()] == [run.info.run_id]
    assert run.info.status == "FINISHED"
    for key in CURVES:
        assert steps(client, run, key) == list(range(1, EPOCHS + 1)), key
    params = {name: json.dumps(value) for name, value in flatten(project.params).items()}
    assert run.data.params["train.lr"] == params["train.lr"]
    assert run.data.params["loss.variant"] == project.params["loss"]["variant"]
    assert {name.split(".")[0] for name in run.data.params} == {"model", "augment", "loss", "train", "data", "facts"}
    assert run.data.params["data.source"] == "synthetic" and run.data.params["data.noise.rate"] == "0.0"
    assert run.data.params["facts.workers"] == "1" and run.data.params["facts.first_weights"] == "null"
    assert run.info.run_name == f"synthetic-nla-{run.data.tags['nla.fingerprint'][:6]}"
    assert run.data.tags["mlflow.source.git.commit"] == project.git("rev-parse", "HEAD~1")
    assert run.data.tags["nla.git_dirty"] == "false"
    assert run.data.tags["dvc.stage"] == "train"
    assert len(run.data.tags["nla.data"]) == 33


def test_the_run_has_datasets_final_metrics_system_metrics_and_figures(
    project: Project, client: MlflowClient, run: Run
) -> None:
    assert run.inputs is not None
    contexts = {item.tags[0].value: item.dataset for item in run.inputs.dataset_inputs}
    assert set(contexts) == {"training", "validation"}
    profile = json.loads(contexts["training"].profile or "")
    assert profile["num_rows"] == TINY["data"]["synthetic"]["train"]
    assert profile["sha256"] == project.sha256("data/train.parquet")[0]
    metrics = project.read_json("reports/metrics.json")
    assert run.data.metrics["test.accuracy"] == metrics["test"]["accuracy"]
    assert steps(client, run, "test.accuracy") == [metrics["epoch"]]
    assert {file.path for file in client.list_artifacts(run.info.run_id, "figures")} == {
        f"figures/{name}.png" for name in FIGURES
    }
    for name in FIGURES:
        assert (project / f"reports/figures/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_model_is_champion_and_predicts_from_bytes(project: Project, client: MlflowClient, tmp_path: Path) -> None:
    version = client.get_model_version_by_alias("nla-synthetic", "champion")
    assert int(version.version) == project.read_json("reports/registered.json")["version"] == 1
    assert version.tags["nla.weights_sha256"] == project.sha256("models/model.safetensors")[0]
    files = []
    for i, image in enumerate(pq.read_table(project / "data/test.parquet")["image"].slice(0, 3).to_pylist()):
        files.append(tmp_path / f"{i}.png")
        files[-1].write_bytes(image["bytes"])
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, *map(str, files)],
        cwd=tmp_path,
        env=user_environment() | {"MLFLOW_TRACKING_URI": project.store},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    served = json.loads(done.stdout.splitlines()[-1])
    expected = Predictor.load(project / "models").predict([file.read_bytes() for file in files])
    assert served["label"] == list(expected.label)
    np.testing.assert_allclose(served["probabilities"], expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(served["ambiguity"], expected.ambiguity, atol=1e-5)


@pytest.mark.thorough
def test_metrics_are_kept_though_mlflow_is_away(project: Project, tmp_path: Path) -> None:
    copy = project.copy(tmp_path / "project")
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    outcome = copy.try_stage("evaluate", **away)
    assert outcome.code == 1 and "MLflow store http://127.0.0.1:9: " in outcome.err
    assert f"full log: {copy.root.resolve()}/.logs/evaluate.log" in outcome.err
    assert copy.sha256("reports/metrics.json") == project.sha256("reports/metrics.json")


@pytest.mark.thorough
def test_without_ray_the_same_is_trained(finished: Finished, prepared: Project, tmp_path: Path) -> None:
    project = prepared.copy(tmp_path / "project")
    project.set({"ray": {"num_workers": 0}})
    printed = project.dvc("repro", "train")
    assert not noise(printed) and "Ray" not in printed and f"epoch {EPOCHS:3d}/{EPOCHS}  loss " in printed
    kept = ("models/model.safetensors", "models/last.safetensors", "models/positions.parquet")
    assert project.sha256(*kept) == finished.project.sha256(*kept)
    folder = project / ".runs" / project.read_json("run.json")["fingerprint"]
    assert {path.name for path in folder.iterdir()} == {"lock", "mlflow.json", "result"}


def test_nothing_is_pickled(project: Project) -> None:
    """Neither by name nor by content: a pickle starts with its protocol, and a zip file may hold one."""
    kept = [path for folder in ("models", "reports", "mlruns") for path in (project / folder).rglob("*")]
    files = [path for path in kept if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files if "mlruns" in path.parts)
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".joblib")]
    assert not [path for path in files if path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK")]


def test_a_second_repro_does_nothing(project: Project) -> None:
    before = Counter(found.info.run_id for found in project.runs())
    printed = project.dvc("repro")
    assert UP_TO_DATE in printed and "Running stage" not in printed
    assert Counter(found.info.run_id for found in project.runs()) == before
    assert UP_TO_DATE in project.dvc("status")


def test_dvc_shows_and_compares(finished: Finished, tmp_path: Path) -> None:
    project = finished.project
    shown = json.loads(project.dvc("metrics", "show", "--json", "--precision", "17"))
    of_dvc = flatten(shown[""]["data"]["reports/metrics.json"]["data"])
    ours = flatten(project.read_json("reports/metrics.json"))
    assert of_dvc == {name: value for name, value in ours.items() if isinstance(value, int | float | str)}
    compared = json.loads(project.try_dvc("metrics", "diff", "--json", "HEAD~1", "HEAD").out)  # HEAD~1 has none
    assert compared["reports/metrics.json"]["test.accuracy"]["old"] is None
    for command in (["show"], ["diff", "HEAD~1"]):
        folder = tmp_path / command[0]
        project.dvc("plots", *command, "--out", str(folder))
        page = (folder / "index.html").read_text()
        assert page.count("vegaEmbed(") >= 4, "one for each table plot of dvc.yaml"
        assert sum(f"{name}.png" in page for name in FIGURES) == len(FIGURES)


@pytest.mark.thorough
def test_what_was_trained_is_handed_over(finished: Finished, tmp_path: Path) -> None:
    """No cache, no outs, nothing in dvc.lock: the same outs again, byte for byte, and nobody trains or measures anew.

    The project lies in another folder, and at another commit, than when it was trained.
    """
    project = finished.project.copy(tmp_path / "project")
    outs = stage_outs("train")
    before, runs = project.sha256(*outs), len(project.runs())
    lock = project / "dvc.lock"
    lock.write_text(without_stage(lock.read_text(), "train"))
    for gone in (".dvc/cache", "models"):
        shutil.rmtree(project / gone)
    for out in ("run.json", "reports/plots/curves.csv"):
        (project / out).unlink()
    printed = project.dvc("repro")
    assert "was trained before: reusing the result" in printed and "epoch  " not in printed
    assert project.sha256(*outs) == before
    assert len(project.runs()) == runs


def without_stage(lock: str, stage: str) -> str:
    """dvc.lock without the entry of a stage."""
    lines = lock.splitlines(keepends=True)
    start = lines.index(f"  {stage}:\n")
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith("   "))
    return "".join(lines[:start] + lines[end:])
