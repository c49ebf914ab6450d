"""The pipeline on a PostgreSQL, with files in an S3-compatible store: behind an MLflow server, and without one."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pandas as pd
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient, set_tracking_uri
from mlflow.entities import Run
from mlflow.pyfunc import load_model
from mlflow_parts import ROOT, clean_env, free_port, started_server
from moto.server import ThreadedMotoServer
from patience import PATIENCE
from postgres_parts import Postgres, postgres_server
from ruamel.yaml import YAML
from tiny_project import Project, survivors

pytestmark = [pytest.mark.slow, pytest.mark.thorough]
EPOCHS = 40  # of a tenth of a second each, so that there is time to kill it
BUCKET = "mlflow"
NAME = "nla-synthetic"
KEYS = {"AWS_ACCESS_KEY_ID": "mlflow", "AWS_SECRET_ACCESS_KEY": "Planted-secret", "AWS_DEFAULT_REGION": "us-east-1"}
ONE_TRAINING = {
    "tune": {"num_samples": 2, "epochs": 1, "scheduler": "none"},
    "train": {"epochs": EPOCHS},
    "ray": {"max_concurrent_trials": 1, "num_workers": 0},
}


@dataclass(frozen=True)
class Servers:
    """A database, a store of files, and an MLflow server over both."""

    postgres: Postgres
    aws: dict[str, str]
    """The environment of what reads and writes files itself."""
    uri: str
    """Of the MLflow server."""

    @property
    def client(self) -> MlflowClient:
        """Of the MLflow server; it needs no key of the file store."""
        return MlflowClient(self.uri)

    def files(self, prefix: str) -> list[str]:
        """Keys in the bucket."""
        pages = s3(self.aws).get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def s3(aws: dict[str, str]) -> Any:
    """A client of the file store with that environment."""
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    endpoint, key, secret, region = (aws[name] for name in names)
    return boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret, region_name=region
    )


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with postgres_server() as postgres:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
        store = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        store.start()
        host, port = store.get_host_and_port()
        aws = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", **KEYS}
        with composed_server(postgres, aws, tmp_path_factory.mktemp("server")) as uri:
            yield Servers(postgres, aws, uri)
        store.stop()


@contextlib.contextmanager
def composed_server(postgres: Postgres, aws: dict[str, str], folder: Path) -> Iterator[str]:
    """URI of the MLflow server of cluster/compose.yaml, by its command and with its environment."""
    service = YAML(typ="safe", pure=True).load(ROOT / "cluster/compose.yaml")["services"]["mlflow"]
    port, uri = free_port(), postgres.create("mlflow")
    here = {
        "@postgres:5432": f"@127.0.0.1:{postgres.port}",
        "http://s3:9000": aws["AWS_ENDPOINT_URL"],
        "${POSTGRES_PASSWORD:?Set it}": postgres.password,
        "${S3_SECRET_KEY:?Set it}": aws["AWS_SECRET_ACCESS_KEY"],
        "--host 0.0.0.0 --port 5000": f"--host 127.0.0.1 --port {port}",
    }

    def replaced(text: str) -> str:
        for there, ours in here.items():
            text = text.replace(there, ours)
        assert "${" not in text
        return text

    env = {name: replaced(value) for name, value in service["environment"].items()}
    assert env["MLFLOW_BACKEND_STORE_URI"] == uri.replace("postgresql:", "postgresql+psycopg:")
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with started_server([replaced(word) for word in service["command"]], port, folder, env) as server:
        yield server


@pytest.fixture(scope="module")
def killed(servers: Servers, prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str, str]:
    """A project whose `dvc repro` was killed in training, and what was printed before and after."""
    project = prepared.copy(tmp_path_factory.mktemp("killed") / "project")
    (project / "mlflow.db").unlink()
    project.set(ONE_TRAINING)
    first = project.start_dvc("repro", MLFLOW_TRACKING_URI=servers.uri)
    first.wait_for(rf"epoch +3/{EPOCHS}")
    family = first.family()
    first.kill(group=True)
    assert not survivors(family, 60.0)
    printed = project.dvc("repro", MLFLOW_TRACKING_URI=servers.uri)
    return project, first.text, printed


def runs_of(client: MlflowClient, stage: str) -> list[Run]:
    """Runs that a stage has begun."""
    found = client.get_experiment_by_name("nla")
    assert found is not None
    return list(client.search_runs([found.experiment_id], f"tags.`dvc.stage` = '{stage}'"))


def assert_each_epoch_once(client: MlflowClient, run_id: str, epochs: int) -> None:
    curves = [key for key in client.get_run(run_id).data.metrics if re.match(r"(train|valid)_", key)]
    assert {"train_loss", "valid_accuracy"} <= set(curves)
    for key in curves:
        steps = [metric.step for metric in client.get_metric_history(run_id, key)]
        assert sorted(steps) == list(range(1, epochs + 1)), key


def test_a_killed_training_resumes_with_each_epoch_once(servers: Servers, killed: tuple[Project, str, str]) -> None:
    project, before, after = killed
    numbers = [int(number) for number in re.findall(rf"epoch +(\d+)/{EPOCHS}  loss", after)]
    assert "epoch" in before and numbers[0] > 1 and numbers[-1] == EPOCHS
    (run,) = [run for run in runs_of(servers.client, "train") if "nla.sweep" not in run.data.tags]
    assert run.info.run_id == project.read_json("run.json")["mlflow_run_id"] and run.info.status == "FINISHED"
    assert_each_epoch_once(servers.client, run.info.run_id, EPOCHS)
    assert "Traceback" not in before + after


def test_the_whole_pipeline_is_on_the_servers(servers: Servers, killed: tuple[Project, str, str]) -> None:
    project, _, _ = killed
    assert "Data and pipelines are up to date." in project.dvc("repro", MLFLOW_TRACKING_URI=servers.uri)
    assert not (project / "mlflow.db").exists() and not (project / "mlruns").exists()
    run_id = project.read_json("run.json")["mlflow_run_id"]
    artifacts = {file.path for file in servers.client.list_artifacts(run_id)}
    assert "metrics.json" in artifacts
    assert any(f"/{run_id}/artifacts/metrics.json" in key for key in servers.files("server/"))


def test_a_sweep_has_a_nested_run_per_trial(servers: Servers, killed: tuple[Project, str, str]) -> None:
    (parent,) = [run for run in runs_of(servers.client, "tune") if "nla.sweep" not in run.data.tags]
    artifacts = {file.path for file in servers.client.list_artifacts(parent.info.run_id, "tune")}
    assert artifacts == {"tune/best.yaml", "tune/trials.parquet"}
    found = servers.client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    assert [run.info.status for run in found] == ["FINISHED"] * 2
    for run in found:
        assert_each_epoch_once(servers.client, run.info.run_id, 1)


def test_the_champion_is_loaded_from_the_registry_and_predicts(
    servers: Servers, killed: tuple[Project, str, str]
) -> None:
    project, _, _ = killed
    champion = servers.client.get_model_version_by_alias(NAME, "champion")
    assert int(champion.version) == project.read_json("reports/registered.json")["version"]
    set_tracking_uri(servers.uri)
    model = load_model(f"models:/{NAME}@champion")
    stored = pq.read_table(project / "data/test.parquet", columns=["image"]).slice(0, 4).to_pylist()
    images = [base64.b64encode(row["image"]["bytes"]).decode() for row in stored]
    predicted = model.predict(pd.DataFrame({"image": images}))
    expected = pq.read_table(project / "reports/predictions/test.parquet", columns=["predicted"]).slice(0, 4)
    assert list(predicted["label"]) == expected.column("predicted").to_pylist()


@pytest.fixture(scope="module")
def pair(killed: tuple[Project, str, str], tmp_path_factory: pytest.TempPathFactory) -> list[Project]:
    """Two clones with a model each, trained at once and logged to stores of their own."""
    clones = [killed[0].copy(tmp_path_factory.mktemp("clone") / "project") for _ in range(2)]
    for seed, clone in enumerate(clones, start=1):
        clone.set({"train": {"epochs": 1, "seed": seed}, "register": {"prefix": "pair"}})
    for started in [clone.start_dvc("repro", "evaluate") for clone in clones]:
        started.wait()
    return clones


def register_at_once(clones: list[Project], client: MlflowClient, env: dict[str, str]) -> list[dict[str, Any]]:
    """Both models are new to the store, and so is their name: two versions, one champion, and nothing lost."""
    for started in [clone.start_dvc("repro", "--single-item", "register", **env) for clone in clones]:
        started.wait()
    records = [clone.read_json("reports/registered.json") for clone in clones]
    assert {record["version"] for record in records} == {1, 2}
    assert records[0]["store"] == records[1]["store"]
    promoted = {record["version"] for record in records if record["decision"] == "champion"}
    assert int(client.get_model_version_by_alias("pair-synthetic", "champion").version) in promoted
    for clone, record in zip(clones, records, strict=True):
        version = client.get_model_version("pair-synthetic", str(record["version"]))
        assert version.tags["nla.weights_sha256"] == clone.sha256("models/model.safetensors")[0]
        run = client.get_run(record["run_id"])
        assert run.info.status == "FINISHED"
        assert run.data.metrics["test.accuracy"] == clone.read_json("reports/metrics.json")["test"]["accuracy"]
        assert run.data.tags["nla.stands_for"] == clone.read_json("run.json")["mlflow_run_id"]
    return records


def test_two_clones_register_at_once_on_a_server(servers: Servers, pair: list[Project]) -> None:
    register_at_once(pair, servers.client, {"MLFLOW_TRACKING_URI": servers.uri})


def test_two_clones_register_at_once_without_a_server(
    servers: Servers, pair: list[Project], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are in a bucket that the experiment names, so that each machine finds those of the others."""
    clones = [clone.copy(tmp_path / str(i)) for i, clone in enumerate(pair)]
    for clone in clones:
        (clone / "reports/registered.json").unlink(missing_ok=True)
    for name, value in servers.aws.items():
        monkeypatch.setenv(name, value)
    uri = servers.postgres.create("direct")
    client = MlflowClient(uri)
    client.create_experiment("nla", f"s3://{BUCKET}/direct")
    records = register_at_once(clones, client, {"MLFLOW_TRACKING_URI": uri, **servers.aws})
    (first,) = [record for record in records if record["champion_before"] is None]
    (second,) = [record for record in records if record is not first]
    assert first["decision"] == "champion" and second["champion_before"] == first["version"], "one after the other"
    assert any(key.endswith("/model.safetensors") for key in servers.files("direct/"))
    for before, clone in zip(pair, clones, strict=True):
        assert files_in(clone / "mlruns") == files_in(before / "mlruns"), "nothing on this machine alone"
        logged = "".join(path.read_text() for path in (clone / ".logs").rglob("*.log"))
        for secret in (servers.postgres.password, servers.aws["AWS_SECRET_ACCESS_KEY"]):
            assert secret not in logged + (clone / "reports/registered.json").read_text()


def files_in(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def test_two_processes_make_the_tables_of_one_database(servers: Servers, tmp_path: Path) -> None:
    uri = servers.postgres.create("empty")
    code = "from pathlib import Path; from nla.tracking import configure; configure(Path.cwd())"
    env = clean_env() | {"MLFLOW_TRACKING_URI": uri}
    started = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in started:
        _, printed = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, printed
    found = MlflowClient(uri).get_experiment_by_name("nla")
    assert found is not None and found.tags["nla.store"]
