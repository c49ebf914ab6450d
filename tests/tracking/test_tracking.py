from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_parts import ROOT, clean_env, new_store, run_python, write_samples
from patience import PATIENCE

from nla.data.schema import read_info
from nla.errors import TrackingError
from nla.tracking import MlflowTracker, configure, lacks_end, run_tags
from nla.tracking.dataset import TableDataset
from nla.tracking.store import experiment, find_run, store_errors, store_id, store_lock
from nla.workflow.paths import project_root, workspace


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return new_store(tmp_path, monkeypatch)


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return MlflowClient(uri)


def tracker(uri: str) -> MlflowTracker:
    return MlflowTracker(uri, system_metrics=False)


def steps(client: MlflowClient, run_id: str, key: str) -> list[int]:
    return [metric.step for metric in client.get_metric_history(run_id, key)]


class TestStore:
    def test_default_is_absolute_below_the_root(self, uri: str, client: MlflowClient, tmp_path: Path) -> None:
        assert uri == f"sqlite:///{tmp_path}/mlflow.db"
        assert experiment(client).artifact_location == (tmp_path / "mlruns").as_uri()
        assert os.environ["MLFLOW_TRACKING_URI"] == uri

    @pytest.mark.parametrize("name", ["100%25 new", "a?b#c", "O'Brien & ü"])
    def test_signs_of_addresses_in_the_name_of_a_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """In an address, ? would begin a query, and %25 be read as %: the store would be somewhere else."""
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        (tmp_path / name).mkdir()
        uri = configure(tmp_path / name)
        assert configure(tmp_path) == uri == os.environ["MLFLOW_TRACKING_URI"]  # as in a process that a stage starts
        tracker = MlflowTracker(uri, system_metrics=False)
        tracker.start("x", {}, {})
        (tmp_path / "note.txt").write_text("text")
        tracker.log_artifact(tmp_path / "note.txt")
        tracker.finish()
        assert {path.name for path in tmp_path.iterdir()} == {name, "note.txt"}
        assert {path.name for path in (tmp_path / name).iterdir()} == {"mlflow.db", "mlflow.db.lock", "mlruns"}
        assert len(list((tmp_path / name / "mlruns").rglob("note.txt"))) == 1

    def test_relative_sqlite_path_is_taken_from_the_root(
        self, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        assert configure(tmp_path) == uri
        assert list((tmp_path / "elsewhere").iterdir()) == []

    def test_dvc_copies_write_into_the_project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "project").mkdir()
        (tmp_path / "copy").mkdir()
        monkeypatch.chdir(tmp_path / "copy")
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
        assert (project_root(), workspace()) == (tmp_path / "project", tmp_path / "copy")
        monkeypatch.delenv("DVC_ROOT")
        assert project_root() == tmp_path / "copy"

    def test_store_keeps_its_id(self, uri: str, client: MlflowClient, tmp_path: Path) -> None:
        first = store_id(client)
        configure(tmp_path)
        assert store_id(client) == first
        assert len(first) == 32

    def test_file_store_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "mlruns"))
        with pytest.raises(TrackingError, match=r"MLflow store .*: (?s:.*)Check MLFLOW_TRACKING_URI"):
            configure(tmp_path)

    def test_passwords_are_not_shown(self) -> None:
        uri = "postgresql://me:secret@host/db"
        with pytest.raises(TrackingError) as caught, store_errors(uri):
            raise MlflowException(f"no connection to {uri}")
        assert "secret" not in str(caught.value)
        assert "postgresql://host/db" in str(caught.value)

    def test_deleted_experiment_says_how_to_restore_it(self, client: MlflowClient, tmp_path: Path) -> None:
        number = experiment(client).experiment_id
        client.delete_experiment(number)
        with pytest.raises(TrackingError, match=f"mlflow experiments restore -x {number}"):
            configure(tmp_path)

    def test_one_process_at_a_time(self, uri: str) -> None:
        code = f"""
from nla.tracking.store import store_lock
print("ready", flush=True)
with store_lock({uri!r}):
    print("in", flush=True)
"""
        with store_lock(uri):
            other = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(0.5)
        assert other.communicate(timeout=PATIENCE)[0] == "in\n"

    @pytest.mark.slow
    @pytest.mark.thorough
    def test_parallel_processes_make_one_store(self, tmp_path: Path) -> None:
        code = """
from pathlib import Path
from nla.tracking import MlflowTracker, configure
tracker = MlflowTracker(configure(Path.cwd()), system_metrics=False)
tracker.start("one", {}, {})
for epoch in range(5):
    tracker.log_epoch({"loss": epoch}, epoch)
tracker.finish()
"""
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code], cwd=tmp_path, env=clean_env(), stderr=subprocess.PIPE, text=True
            )
            for _ in range(3)
        ]
        said = [process.communicate(timeout=PATIENCE)[1] for process in started]
        assert [process.returncode for process in started] == [0, 0, 0], said
        assert said == ["", "", ""]
        client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
        runs = client.search_runs([client.get_experiment_by_name("nla").experiment_id])
        assert [steps(client, run.info.run_id, "loss") for run in runs] == [[0, 1, 2, 3, 4]] * 3
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


class TestRun:
    def test_params_and_tags(self, uri: str, client: MlflowClient) -> None:
        params = {"train": {"lr": 1e-3, "ema": None}, "data": {"mapping": {"Wut (stark)": "x"}, "long": "é" * 7000}}
        params["many"] = {f"k{i}": i for i in range(150)}
        run_id = tracker(uri).start("first", params, {"nla.fingerprint": "abc", "note": "n" * 9000})
        data = client.get_run(run_id).data
        assert len(data.params) == 154
        assert data.params["train.lr"] == "0.001"
        assert data.params["train.ema"] == "null"
        assert data.params["data.mapping.Wut _stark_"] == "x"
        assert len(data.params["data.long"]) == 6000
        assert data.params["data.long"].endswith("é ... (7000 characters)")
        assert data.tags["nla.fingerprint"] == "abc"
        assert len(data.tags["note"]) == 8000
        assert data.tags["mlflow.runName"] == "first"

    @pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
    def test_status(self, uri: str, client: MlflowClient, status: str) -> None:
        run = tracker(uri)
        run_id = run.start("x", {}, {})
        assert client.get_run(run_id).info.status == "RUNNING"
        run.finish(status)  # type: ignore[arg-type]
        assert client.get_run(run_id).info.status == status

    @pytest.mark.parametrize(
        ("error", "status"), [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
    )
    def test_the_run_is_closed_whatever_happens(
        self, uri: str, client: MlflowClient, error: type[BaseException] | None, status: str
    ) -> None:
        run = tracker(uri)
        run_id = run.start("x", {}, {})
        assert lacks_end(uri, run_id)
        with contextlib.suppress(error or ()), run.closing():
            if error:
                raise error
        assert client.get_run(run_id).info.status == status
        assert lacks_end(uri, run_id) == (status != "FINISHED")

    def test_what_the_store_lacks_is_nothing_to_end(self, uri: str) -> None:
        assert not lacks_end(uri, None) and not lacks_end(uri, "0" * 32)

    def test_params_that_are_known_later(self, uri: str, client: MlflowClient) -> None:
        run = tracker(uri)
        run_id = run.start("x", {"lr": 1}, {})
        run.log_params({"lr": 2, "facts": {"first_weights": None, "workers": 2}})
        run.log_params({"facts": {"workers": 3}})
        assert client.get_run(run_id).data.params == {"lr": "1", "facts.first_weights": "null", "facts.workers": "2"}

    def test_resume_after_sigkill_has_no_doubled_steps(self, uri: str, client: MlflowClient, tmp_path: Path) -> None:
        code = f"""
import os, signal
from nla.tracking import MlflowTracker
tracker = MlflowTracker({uri!r}, system_metrics=False)
print(tracker.start("x", {{"train": {{"lr": 1}}}}, {{}}), flush=True)
for epoch in range(3):
    tracker.log_epoch({{"loss": 9 - epoch, "accuracy": 0.5}}, epoch)
os.kill(os.getpid(), signal.SIGKILL)
"""
        killed = run_python(code, tmp_path)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        run_id = killed.stdout.strip()
        assert client.get_run(run_id).info.status == "RUNNING"

        resumed = tracker(uri)
        assert resumed.start("x", {"train": {"lr": 1, "new": 2}}, {"t": "2"}, run_id) == run_id
        for epoch in range(1, 5):
            resumed.log_epoch({"loss": 100 + epoch, "accuracy": 0.7}, epoch)
        resumed.finish()
        assert steps(client, run_id, "loss") == [0, 1, 2, 3, 4]
        assert [m.value for m in client.get_metric_history(run_id, "loss")] == [9, 8, 7, 103, 104]
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert run.data.params == {"train.lr": "1", "train.new": "2"}
        assert len(client.search_runs([run.info.experiment_id])) == 1

    def test_resume_with_another_param_keeps_the_first(self, uri: str, client: MlflowClient) -> None:
        run_id = tracker(uri).start("x", {"lr": 1}, {})
        tracker(uri).start("x", {"lr": 2}, {}, run_id)
        assert client.get_run(run_id).data.params == {"lr": "1"}

    @pytest.mark.parametrize("fate", ["unknown", "deleted"])
    def test_run_that_is_not_there_is_stood_for(self, uri: str, client: MlflowClient, fate: str) -> None:
        missing = "0" * 32
        if fate == "deleted":
            missing = tracker(uri).start("x", {}, {})
            client.delete_run(missing)
        assert find_run(client, missing) is None
        stand_in = tracker(uri).start("x", {}, {}, missing)
        assert stand_in != missing
        assert tracker(uri).start("x", {}, {}, missing) == stand_in

    def test_final_metrics(self, uri: str, client: MlflowClient) -> None:
        run = tracker(uri)
        run_id = run.start("x", {}, {})
        metrics = {"test": {"accuracy": 0.5, "n": 3, "absent": ["fear"], "nll": float("nan"), "ok": True, "no": None}}
        run.log_metrics(metrics, 7)
        run.log_metrics(metrics, 7)
        assert client.get_run(run_id).data.metrics == {"test.accuracy": 0.5, "test.n": 3.0}
        assert steps(client, run_id, "test.accuracy") == [7]
        time.sleep(0.002)  # MLflow's clock counts milliseconds
        run.log_metrics({"test": {"accuracy": 0.25}}, 7)
        run.log_metrics({"test": {"accuracy": 0.25}}, 7)
        assert client.get_run(run_id).data.metrics["test.accuracy"] == 0.25
        assert steps(client, run_id, "test.accuracy") == [7, 7]

    def test_epochs_wait_for_a_store_that_is_away(
        self, uri: str, client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        run = tracker(uri)
        run_id = run.start("x", {}, {})
        run.log_epoch({"loss": 0}, 0)
        database = sqlite3.connect(tmp_path / "mlflow.db")
        database.execute("ALTER TABLE metrics RENAME TO hidden")
        run.log_epoch({"loss": 1}, 1)
        assert "could not log epoch 1" in caplog.text
        with pytest.raises(TrackingError):
            run.log_metrics({"a": 1}, 1)
        run.log_epoch({"loss": 2}, 2)
        database.execute("ALTER TABLE hidden RENAME TO metrics")
        database.close()
        client.log_metric(run_id, "loss", 1, step=1)  # had been taken down, only the answer was lost
        run.log_epoch({"loss": 3}, 3)
        assert sorted(steps(client, run_id, "loss")) == [0, 1, 2, 3]

    def test_a_clock_that_is_set_back_hides_no_later_value(
        self, uri: str, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = tracker(uri)
        run_id = run.start("x", {}, {})
        run.log_metrics({"accuracy": 0.5}, 3)
        before = time.time()
        monkeypatch.setattr("nla.tracking.tracker.time.time", lambda: before - 3600)
        for _ in range(2):
            run.log_metrics({"accuracy": 0.75}, 3)
        run.finish()
        found = client.get_run(run_id)
        assert found.data.metrics["accuracy"] == 0.75
        assert len(client.get_metric_history(run_id, "accuracy")) == 2
        assert found.info.end_time >= found.info.start_time

    def test_dataset(self, uri: str, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "data").mkdir()
        path = write_samples(Path("data/train.parquet"), [0, 1, 1, 1, 2])
        run = tracker(uri)
        run_id = run.start("x", {}, {})
        run.log_dataset(path, read_info(path), "training")
        run.log_dataset(path.absolute(), read_info(path), "training")
        (logged,) = client.get_run(run_id).inputs.dataset_inputs
        digest = subprocess.check_output(["sha256sum", path], text=True).split()[0]
        assert logged.dataset.name == "synthetic-train"
        assert logged.dataset.digest == digest[:36]
        assert json.loads(logged.dataset.source) == {"uri": "data/train.parquet"}
        profile = {"num_rows": 5, "counts": {"happiness": 3, "neutral": 1, "surprise": 1}, "sha256": digest}
        assert json.loads(logged.dataset.profile) == profile
        assert [c["name"] for c in json.loads(logged.dataset.schema)["mlflow_colspec"]] == ["image", "label"]
        assert [(tag.key, tag.value) for tag in logged.tags] == [("mlflow.data.context", "training")]

    def test_a_dataset_of_distributions_has_their_sums(self, tmp_path: Path) -> None:
        targets = [[0.5, 0.25, 0.25], None, [0.0, 0.125, 0.875]]
        path = write_samples(tmp_path / "train.parquet", [0, 1, 2], classes=("a", "b", "c"), targets=targets)
        profile = TableDataset(path, read_info(path)).profile
        assert profile["counts"] == {"a": 1, "b": 1, "c": 1}
        assert profile["target_sums"] == {"a": 0.5, "b": 1.38, "c": 1.12}

    def test_files(self, uri: str, client: MlflowClient, tmp_path: Path) -> None:
        (tmp_path / "curves.csv").write_text("epoch\n0\n")
        run = tracker(uri)
        run_id = run.start("x", {}, {})
        run.log_artifact(tmp_path / "curves.csv", "tables")
        assert (tmp_path / "mlruns" / run_id / "artifacts/tables/curves.csv").read_text() == "epoch\n0\n"

    def test_system_metrics_go_on_after_a_resume(
        self, uri: str, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
        run_id, counts = None, []
        for _ in range(2):
            run = MlflowTracker(uri)
            run_id = run.start("x", {}, {}, run_id)
            time.sleep(1)
            run.finish()
            counts.append(len(steps(client, run_id, "system/cpu_utilization_percentage")))
        logged = steps(client, run_id, "system/cpu_utilization_percentage")
        assert 0 < counts[0] < counts[1]
        assert logged == list(range(len(logged)))

    def test_tags_link_to_code_and_experiment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def git(*words: str) -> str:
            who = ["-c", "user.name=a", "-c", "user.email=a@b"]
            return subprocess.check_output(["git", "-C", tmp_path, *who, *words], text=True).strip()

        for name, value in {"DVC_STAGE": "train", "DVC_EXP_NAME": "puffy-mole", "DVC_EXP_BASELINE_REV": "b0"}.items():
            monkeypatch.setenv(name, value)
        assert "mlflow.source.git.commit" not in run_tags(tmp_path, "f", "d")
        git("init", "-q")
        (tmp_path / "a").write_text("1")
        git("add", "a")
        git("commit", "-qm", "a")
        commit = git("rev-parse", "HEAD")
        expected = {
            "nla.fingerprint": "f",
            "nla.data": "d",
            "nla.git_dirty": "false",
            "mlflow.source.git.commit": commit,
            "mlflow.source.name": "train",
            "dvc.stage": "train",
            "dvc.exp_name": "puffy-mole",
            "dvc.exp_baseline": "b0",
        }
        assert run_tags(tmp_path, "f", "d") == expected
        (tmp_path / "a").write_text("2")
        assert run_tags(tmp_path, "f", "d") == expected | {"nla.git_dirty": "true"}
        assert run_tags(tmp_path, "f", "d", "c" * 64)["nla.corrections"] == "c" * 64
