"""Searches on a real Ray: resuming, extending, stopping, and trials that fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pyarrow.fs as pa_fs
import pytest
from moto.server import ThreadedMotoServer
from patience import PATIENCE
from search_parts import EPOCHS, PARALLEL, RecordingCallback, run, settings

from nla.config.ray import RayConfig
from nla.data.samples import Samples
from nla.errors import ConfigError, TrainingError
from nla.ray_cluster import Cluster
from nla.training.trainer import Split
from nla.tuning.results import Trial

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module")
def split(tiny_samples: Callable[..., Samples]) -> Split:
    return Split(tiny_samples(64), tiny_samples(48, seed=1))


def numbers(trials: list[Trial]) -> list[int]:
    return [trial.number for trial in trials]


@pytest.mark.thorough
@pytest.mark.parametrize("searcher", ["random", "optuna", "gp"])
def test_finished_search_is_reused_and_extended(
    tmp_path: Path, ray_cluster: Cluster, split: Split, searcher: str
) -> None:
    chosen = {"searcher": searcher, "objective": "mean_accuracy"}
    found, events = run(ray_cluster, split, tmp_path, settings(2, **chosen))
    assert numbers(found) == [0, 1] and {trial.status for trial in found} == {"finished"}
    assert found[0].values == {"loss.lam": 0.5, "loss.slope": 15.0}, "the published values come first"
    assert all([int(row["epoch"]) for row in trial.history] == [1, 2, 3] for trial in found)
    for trial in found:  # the score is that of the epoch that train.select keeps, by accuracy
        accuracies = [row["valid_accuracy"] for row in trial.history]
        assert trial.best_epoch == 1 + accuracies.index(max(accuracies))
        kept = trial.history[trial.best_epoch - 1]["valid_mean_accuracy"]
        assert trial.score("mean_accuracy") == events.scores[trial.id] == kept
    assert sorted(events.epochs) == sorted((trial.id, epoch) for trial in found for epoch in (1, 2, 3))
    assert sorted(events.ends) == sorted(trial.id for trial in found)

    again, events = run(ray_cluster, split, tmp_path, settings(2, **chosen))
    assert [(trial.id, trial.values, trial.history, trial.seconds) for trial in again] == [
        (trial.id, trial.values, trial.history, trial.seconds) for trial in found
    ]
    assert not events.epochs, "nothing is retrained"
    assert events.restored == {trial.id: EPOCHS for trial in found}, "callbacks get the restored trials"

    more, events = run(ray_cluster, split, tmp_path, settings(3, **chosen))
    assert numbers(more) == [0, 1, 2]
    assert [trial.id for trial in more[:2]] == [trial.id for trial in found]
    assert {trial for trial, _ in events.epochs} == {more[2].id}
    assert more[2].values not in [trial.values for trial in found]
    assert 0 < max(trial.seconds for trial in found) < more[2].seconds, "the clock continues"
    assert events.restored == {trial.id: EPOCHS for trial in found}


def folder_of(tmp_path: Path) -> Path:
    """Ray's folder of the first two samples."""
    return tmp_path / ("s" * 16) / "00000-00002"


def states(folder: Path) -> list[Path]:
    return sorted(folder.glob("experiment_state-*.json"))


def truncate(path: Path) -> None:
    """Leaves a file as a kill in the middle of writing does."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.thorough
@pytest.mark.parametrize("state", ["none", "tuner truncated"])
def test_search_with_unreadable_state_starts_over(
    tmp_path: Path, ray_cluster: Cluster, split: Split, state: str
) -> None:
    found, _ = run(ray_cluster, split, tmp_path, settings(2))
    folder = folder_of(tmp_path)
    if state == "tuner truncated":
        truncate(folder / "tuner.pkl")
    else:
        for path in folder.iterdir():
            if path.name != "tuner.pkl":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    again, events = run(ray_cluster, split, tmp_path, settings(2))
    assert [(trial.status, trial.values) for trial in again] == [("finished", trial.values) for trial in found]
    assert len(events.epochs) == 2 * EPOCHS and not events.restored


@pytest.mark.thorough
def test_incomplete_state_falls_back_to_the_call_before(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    found, _ = run(ray_cluster, split, tmp_path, settings(2))
    run(ray_cluster, split, tmp_path, settings(2))
    first, second = states(folder_of(tmp_path))
    truncate(second)
    again, events = run(ray_cluster, split, tmp_path, settings(2))
    assert [trial.id for trial in again] == [trial.id for trial in found] and not events.epochs
    assert first.exists()


class FastClock(RecordingCallback):
    """Its clock is two minutes fast after so many epochs."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.limit = epochs

    def elapsed(self) -> float:
        return time.monotonic() + (120 if len(self.epochs) >= self.limit else 0)


@pytest.mark.thorough
def test_time_budget_stops_a_search_and_a_larger_one_resumes_it(
    tmp_path: Path, ray_cluster: Cluster, split: Split
) -> None:
    fast_clock = FastClock(3)
    limited = settings(4, time_budget=1.0, epochs=8)
    found, _ = run(ray_cluster, split, tmp_path, limited, PARALLEL, fast_clock, fast_clock.elapsed, epochs=8)
    assert {trial.status for trial in found} == {"stopped"}
    assert all(trial.reason.startswith("time budget, after epoch") for trial in found)
    assert sum(len(trial.history) for trial in found) < 8

    same, events = run(ray_cluster, split, tmp_path, limited, epochs=8)
    assert [trial.id for trial in same] == [trial.id for trial in found]
    assert len(events.epochs) < 8, "no time is left"

    free, events = run(ray_cluster, split, tmp_path, settings(4, epochs=8), epochs=8)
    assert [trial.status for trial in free] == ["finished"] * 4
    assert [trial.id for trial in free[: len(found)]] == [trial.id for trial in found]
    assert all([int(row["epoch"]) for row in trial.history] == list(range(1, 9)) for trial in free)
    assert len(events.epochs) < 32, "trials resume from their last epochs"


@pytest.mark.thorough
@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_concurrency_limit_of_the_current_call(
    tmp_path: Path, ray_cluster: Cluster, split: Split, searcher: str
) -> None:
    epochs = 30  # long enough for a second process to start before the first trial ends
    fast_clock, whole = FastClock(2), settings(3, searcher=searcher, epochs=epochs)
    limited = whole.model_copy(update={"time_budget": 1.0})
    run(ray_cluster, split, tmp_path, limited, callback=fast_clock, elapsed=fast_clock.elapsed, epochs=epochs)
    assert fast_clock.most_concurrent == 1
    found, events = run(ray_cluster, split, tmp_path, whole, PARALLEL, epochs=epochs)
    assert [trial.status for trial in found] == ["finished"] * 3 and events.most_concurrent == 2


@pytest.mark.thorough
def test_reason_of_a_stop_is_its_true_cause(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    """Patience stops the trial, although ASHA and a time budget are set too; with lr 1e-30 nothing improves."""
    space = {"train": {"lr": {"choice": [1e-30, 2e-30]}}}
    config = settings(1, scheduler="asha", grace_epochs=6, epochs=6, time_budget=60.0, space=space)
    found, _ = run(ray_cluster, split, tmp_path, config, lr=1e-30, freeze_batchnorm=True, patience=2, epochs=6)
    (trial,) = found
    assert trial.status == "stopped" and trial.reason == f"patience, after epoch {len(trial.history)} of 6"
    assert len(trial.history) < 6


@pytest.mark.thorough
def test_search_continues_after_an_unexpected_error(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    """BatchNorm fails on one image of 16 px, which is one value per channel in the last stage."""
    space = {"train": {"batch_size": {"grid": [16, 1]}}}
    found, events = run(ray_cluster, split, tmp_path, settings(1, space=space), loss={"name": "ce"})
    by_batch = {trial.values["train.batch_size"]: trial for trial in found}
    assert events.failed == [by_batch[1].id]
    assert by_batch[16].status == "finished"
    assert by_batch[1].status == "failed" and by_batch[1].reason.startswith("ValueError: Expected more than 1 value")


@pytest.mark.thorough
def test_search_continues_after_a_diverged_trial(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    space = {"train": {"lr": {"choice": [0.01, 1e38]}}}
    found, events = run(ray_cluster, split, tmp_path, settings(6, space=space, seed=1), schedule="constant")
    failed = [trial for trial in found if trial.status == "failed"]
    assert set(events.failed) == {trial.id for trial in failed}
    assert {trial.values["train.lr"] for trial in failed} == {1e38}
    assert {trial.values["train.lr"] for trial in found if trial.status == "finished"} == {0.01}
    assert all("not finite" in trial.reason for trial in failed)


@pytest.mark.thorough
def test_asha_stops_trials(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    config = settings(6, scheduler="asha", epochs=EPOCHS, reduction=3.0)
    found, _ = run(ray_cluster, split, tmp_path, config)
    stopped = [trial for trial in found if trial.status == "stopped"]
    assert stopped and all(trial.reason.startswith("asha, after epoch") for trial in stopped)
    assert all(len(trial.history) < EPOCHS for trial in stopped)
    assert [trial for trial in found if trial.status == "finished"]


@pytest.mark.thorough
def test_median_stopping_runs(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    found, _ = run(ray_cluster, split, tmp_path, settings(3, scheduler="median"))
    assert len(found) == 3 and all(trial.history for trial in found)


@pytest.mark.thorough
def test_pbt_stays_within_the_space(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    loss = {
        "lam": {"uniform": [0.45, 0.5]},
        "consistency": {"choice": ["jensen_shannon", "none"]},
        "slope": {"quniform": [5.0, 25.0, 5.0]},
    }
    space = {"loss": loss}
    config = settings(4, scheduler="pbt", space=space, epochs=8)
    found, _ = run(ray_cluster, split, tmp_path, config, PARALLEL, epochs=8)
    assert [trial.status for trial in found] == ["finished"] * 4
    assert all(each.contains(trial.values[name]) for trial in found for name, each in config.distributions.items())
    assert all(len(trial.history) == trial.best_epoch == 8 for trial in found)


@pytest.mark.thorough
def test_trials_run_one_at_a_time_if_limited_to_one(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    _, events = run(ray_cluster, split, tmp_path, settings(2))
    one, two = events.starts
    assert events.epochs == [(one, 1), (one, 2), (one, 3), (two, 1), (two, 2), (two, 3)]


@pytest.mark.parametrize("ray", [{"cpus_per_trial": 3}, {"gpus_per_trial": 0.5}])
def test_trial_that_does_not_fit_is_an_error(
    ray_cluster: Cluster, split: Split, ray: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"no node has .* Lower ray\.cpus_per_trial"):
        run(ray_cluster, split, tmp_path, settings(1), RayConfig(**ray))


@pytest.mark.thorough
def test_search_for_two_objectives_is_extended(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    found, _ = run(ray_cluster, split, tmp_path, settings(2, objective="both", searcher="optuna"))
    assert all(trial.score("both") > 0 for trial in found)
    more, _ = run(ray_cluster, split, tmp_path, settings(3, objective="both", searcher="optuna"))
    assert [trial.id for trial in more[:2]] == [trial.id for trial in found] and len(more) == 3


@pytest.mark.thorough
def test_grid_is_exhaustive(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    space = {"loss": {"lam": {"grid": [0.4, 0.5]}}}
    found, _ = run(ray_cluster, split, tmp_path, settings(1, space=space))
    assert sorted(trial.values["loss.lam"] for trial in found) == [0.4, 0.5]


class KillsATrial(RecordingCallback):
    """SIGKILLs the processes of trials after a second epoch."""

    killed = 0

    def on_epoch_end(self, trial: str, row: Mapping[str, float], score: float) -> None:
        super().on_epoch_end(trial, row, score)
        if not self.killed and row["epoch"] == 2:
            for process in psutil.Process().children(recursive=True):
                if "ImplicitFunc" in " ".join(process.cmdline()):
                    process.kill()
                    self.killed += 1


@pytest.mark.thorough
def test_trials_resume_after_their_processes_are_killed(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    killer = KillsATrial()
    found, _ = run(ray_cluster, split, tmp_path, settings(2, epochs=40), PARALLEL, callback=killer, epochs=40)
    assert killer.killed
    assert [trial.status for trial in found] == ["finished"] * 2
    assert all([int(row["epoch"]) for row in trial.history] == list(range(1, 41)) for trial in found)
    repeated = len(killer.epochs) - len(set(killer.epochs))
    assert repeated <= 2, "trials resume from their last epochs"


@pytest.mark.thorough
def test_several_workers_per_trial(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    ray = RayConfig(use_gpu=False, workers_per_trial=2)
    found, events = run(ray_cluster, split, tmp_path, settings(2), ray)
    assert [trial.status for trial in found] == ["finished"] * 2
    assert all([int(row["epoch"]) for row in trial.history] == [1, 2, 3] for trial in found)
    assert sorted(events.epochs) == sorted((trial.id, epoch) for trial in found for epoch in (1, 2, 3))
    again, events = run(ray_cluster, split, tmp_path, settings(2), ray)
    assert [trial.history for trial in again] == [trial.history for trial in found] and not events.epochs
    with pytest.raises(ConfigError, match=r"tune\.scheduler: pbt .* needs ray\.workers_per_trial 1 \(got 2\)"):
        run(ray_cluster, split, tmp_path, settings(3, scheduler="pbt"), ray)
    with pytest.raises(ConfigError, match=r"batch_size: 16 is not divisible by 3 workers\. .* ray\.workers_"):
        run(ray_cluster, split, tmp_path, settings(3), RayConfig(use_gpu=False, workers_per_trial=3))
    with pytest.raises(TrainingError, match=r"no room for 4 workers\. Lower ray\."):
        run(ray_cluster, split, tmp_path, settings(3), RayConfig(use_gpu=False, workers_per_trial=4))
    with pytest.raises(ConfigError, match=r"ray\.workers_per_trial: the search in .* cannot resume"):
        run(ray_cluster, split, tmp_path, settings(2))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a bucket of an S3-compatible server on this machine."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    filesystem, path = pa_fs.FileSystem.from_uri("s3://faces?allow_bucket_creation=true")
    filesystem.create_dir(path)
    yield "s3://faces/runs"
    server.stop()


@pytest.mark.thorough
def test_search_is_stored_in_s3(bucket: str) -> None:
    """In a separate Ray, whose processes know the store by their environment; the second call reuses the search."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY", "PYTEST"))}
    env = inherited | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(Path(__file__).with_name("search_parts.py")), bucket]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    first, again = map(json.loads, done.stdout.splitlines())
    assert [status for _, status, *_ in first["trials"]] == ["finished"] * 2
    assert again["trials"] == first["trials"] and (first["epochs"], again["epochs"]) == (2 * EPOCHS, 0)
    filesystem, path = pa_fs.FileSystem.from_uri(bucket)
    stored = filesystem.get_file_info(pa_fs.FileSelector(path, recursive=True))
    assert [entry for entry in stored if entry.base_name == "state.json"]
