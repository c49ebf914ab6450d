"""A search on a real Ray: its trials, going on, being extended, and trials that fail."""

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
from sweep_parts import EPOCHS, SIDE_BY_SIDE, Counts, run, settings

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


@pytest.mark.parametrize(
    "searcher", ["random", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("optuna", "gp"))]
)
def test_a_search_ends_is_handed_over_and_extended(
    tmp_path: Path, ray_cluster: Cluster, split: Split, searcher: str
) -> None:
    found, counts = run(ray_cluster, split, tmp_path, settings(2, searcher=searcher))
    assert numbers(found) == [0, 1] and {trial.status for trial in found} == {"finished"}
    assert found[0].values == {"loss.lam": 0.5, "loss.slope": 15.0}, "the published values come first"
    assert all([int(row["epoch"]) for row in trial.history] == [1, 2, 3] for trial in found)
    assert sorted(counts.epochs) == sorted((trial.id, epoch) for trial in found for epoch in (1, 2, 3))
    assert sorted(counts.ends) == sorted(trial.id for trial in found)

    again, counts = run(ray_cluster, split, tmp_path, settings(2, searcher=searcher))
    assert [(trial.id, trial.values, trial.history, trial.seconds) for trial in again] == [
        (trial.id, trial.values, trial.history, trial.seconds) for trial in found
    ]
    assert not counts.epochs, "nothing is trained again"
    assert counts.before == {trial.id: EPOCHS for trial in found}, "and who watches is told so"

    more, counts = run(ray_cluster, split, tmp_path, settings(3, searcher=searcher))
    assert numbers(more) == [0, 1, 2]
    assert [trial.id for trial in more[:2]] == [trial.id for trial in found]
    assert {trial for trial, _ in counts.epochs} == {more[2].id}
    assert more[2].values not in [trial.values for trial in found]
    assert 0 < max(trial.seconds for trial in found) < more[2].seconds, "the clock goes on"
    assert counts.before == {trial.id: EPOCHS for trial in found}


def folder_of(tmp_path: Path) -> Path:
    """Ray's, of the first two samples."""
    return tmp_path / ("s" * 16) / "00000-00002"


def states(folder: Path) -> list[Path]:
    return sorted(folder.glob("experiment_state-*.json"))


def tear(path: Path) -> None:
    """As a kill in the middle of writing leaves it."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.thorough
@pytest.mark.parametrize("state", ["none", "tuner torn"])
def test_a_search_that_was_killed_before_ray_kept_it_begins_anew(
    tmp_path: Path, ray_cluster: Cluster, split: Split, state: str
) -> None:
    found, _ = run(ray_cluster, split, tmp_path, settings(2))
    folder = folder_of(tmp_path)
    if state == "tuner torn":
        tear(folder / "tuner.pkl")
    else:
        for path in folder.iterdir():
            if path.name != "tuner.pkl":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    again, counts = run(ray_cluster, split, tmp_path, settings(2))
    assert [(trial.status, trial.values) for trial in again] == [("finished", trial.values) for trial in found]
    assert len(counts.epochs) == 2 * EPOCHS and not counts.before


@pytest.mark.thorough
def test_a_state_that_was_not_written_to_its_end_is_that_of_the_call_before(
    tmp_path: Path, ray_cluster: Cluster, split: Split
) -> None:
    found, _ = run(ray_cluster, split, tmp_path, settings(2))
    run(ray_cluster, split, tmp_path, settings(2))
    first, second = states(folder_of(tmp_path))
    tear(second)
    again, counts = run(ray_cluster, split, tmp_path, settings(2))
    assert [trial.id for trial in again] == [trial.id for trial in found] and not counts.epochs
    assert first.exists()


class Impatient(Counts):
    """Its clock is two minutes fast once it has heard of so many epochs."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.patience = epochs

    def now(self) -> float:
        return time.time() + (120 if len(self.epochs) >= self.patience else 0)


def test_a_time_budget_ends_a_search_and_a_larger_one_goes_on(
    tmp_path: Path, ray_cluster: Cluster, split: Split
) -> None:
    impatient = Impatient(3)
    limited = settings(4, time_budget=1.0, epochs=8)
    found, _ = run(ray_cluster, split, tmp_path, limited, SIDE_BY_SIDE, impatient, impatient.now, epochs=8)
    assert {trial.status for trial in found} == {"stopped"}
    assert all(trial.reason.startswith("time budget, after epoch") for trial in found)
    assert sum(len(trial.history) for trial in found) < 8

    same, counts = run(ray_cluster, split, tmp_path, limited, epochs=8)
    assert [trial.id for trial in same] == [trial.id for trial in found]
    assert len(counts.epochs) < 8, "no time is left"

    free, counts = run(ray_cluster, split, tmp_path, settings(4, epochs=8), epochs=8)
    assert [trial.status for trial in free] == ["finished"] * 4
    assert [trial.id for trial in free[: len(found)]] == [trial.id for trial in found]
    assert all([int(row["epoch"]) for row in trial.history] == list(range(1, 9)) for trial in free)
    assert len(counts.epochs) < 32, "they go on from their last epochs"


@pytest.mark.thorough
@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_the_limit_of_the_present_call_holds(tmp_path: Path, ray_cluster: Cluster, split: Split, searcher: str) -> None:
    epochs = 30  # so long that a second process is there before the first trial ends
    impatient, whole = Impatient(2), settings(3, searcher=searcher, epochs=epochs)
    limited = whole.model_copy(update={"time_budget": 1.0})
    run(ray_cluster, split, tmp_path, limited, watcher=impatient, now=impatient.now, epochs=epochs)
    assert impatient.side_by_side == 1
    found, counts = run(ray_cluster, split, tmp_path, whole, SIDE_BY_SIDE, epochs=epochs)
    assert [trial.status for trial in found] == ["finished"] * 3 and counts.side_by_side == 2


def test_the_reason_of_a_stop_is_the_one_that_it_had(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    """By patience here, where ASHA and a time budget are there too; a learning rate of nothing gets no better."""
    space = {"train": {"lr": {"choice": [1e-30, 2e-30]}}}
    config = settings(1, scheduler="asha", grace_epochs=6, epochs=6, time_budget=60.0, space=space)
    found, _ = run(ray_cluster, split, tmp_path, config, lr=1e-30, freeze_batchnorm=True, patience=2, epochs=6)
    (trial,) = found
    assert trial.status == "stopped" and trial.reason == f"patience, after epoch {len(trial.history)} of 6"
    assert len(trial.history) < 6


@pytest.mark.thorough
def test_a_trial_that_breaks_is_told_and_the_search_goes_on(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    """By an error that nobody foresaw: one image of 16 px is one value a channel in the last stage."""
    space = {"train": {"batch_size": {"grid": [16, 1]}}}
    found, _ = run(ray_cluster, split, tmp_path, settings(1, space=space), loss={"name": "ce"})
    by_batch = {trial.values["train.batch_size"]: trial for trial in found}
    assert by_batch[16].status == "finished"
    assert by_batch[1].status == "failed" and by_batch[1].reason.startswith("ValueError: Expected more than 1 value")


def test_trials_that_diverge_are_told_and_the_search_goes_on(
    tmp_path: Path, ray_cluster: Cluster, split: Split
) -> None:
    space = {"train": {"lr": {"choice": [0.01, 1e38]}}}
    found, _ = run(ray_cluster, split, tmp_path, settings(6, space=space, seed=1), schedule="constant")
    failed = [trial for trial in found if trial.status == "failed"]
    assert {trial.values["train.lr"] for trial in failed} == {1e38}
    assert {trial.values["train.lr"] for trial in found if trial.status == "finished"} == {0.01}
    assert all("not finite" in trial.reason for trial in failed)


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


def test_pbt_stays_within_the_space(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    loss = {
        "lam": {"uniform": [0.45, 0.5]},
        "consistency": {"choice": ["jensen_shannon", "none"]},
        "slope": {"quniform": [5.0, 25.0, 5.0]},
    }
    space = {"loss": loss}
    config = settings(4, scheduler="pbt", space=space, epochs=8)
    found, _ = run(ray_cluster, split, tmp_path, config, SIDE_BY_SIDE, epochs=8)
    assert [trial.status for trial in found] == ["finished"] * 4
    assert all(each.holds(trial.values[name]) for trial in found for name, each in config.distributions.items())
    assert all(len(trial.history) == 8 and len(trial.own) == 1 for trial in found)


def test_trials_wait_for_their_turn(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    _, counts = run(ray_cluster, split, tmp_path, settings(2))
    one, two = counts.starts
    assert counts.epochs == [(one, 1), (one, 2), (one, 3), (two, 1), (two, 2), (two, 3)]


@pytest.mark.parametrize("ray", [{"cpus_per_trial": 3}, {"gpus_per_trial": 0.5}])
def test_a_trial_without_room_is_told(ray_cluster: Cluster, split: Split, ray: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no node has .* Lower ray\.cpus_per_trial"):
        run(ray_cluster, split, tmp_path, settings(1), RayConfig(**ray))


@pytest.mark.thorough
def test_a_front_of_two_metrics(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    found, _ = run(ray_cluster, split, tmp_path, settings(2, objective="both", searcher="optuna"))
    assert all(trial.score("both") > 0 for trial in found)
    more, _ = run(ray_cluster, split, tmp_path, settings(3, objective="both", searcher="optuna"))
    assert [trial.id for trial in more[:2]] == [trial.id for trial in found] and len(more) == 3


@pytest.mark.thorough
def test_a_grid_is_gone_through(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    space = {"loss": {"lam": {"grid": [0.4, 0.5]}}}
    found, _ = run(ray_cluster, split, tmp_path, settings(1, space=space))
    assert sorted(trial.values["loss.lam"] for trial in found) == [0.4, 0.5]


class KillsATrial(Counts):
    """SIGKILLs the processes of trials when it hears of a second epoch."""

    killed = 0

    def epoch(self, trial: str, row: Mapping[str, float]) -> None:
        super().epoch(trial, row)
        if not self.killed and row["epoch"] == 2:
            for process in psutil.Process().children(recursive=True):
                if "ImplicitFunc" in " ".join(process.cmdline()):
                    process.kill()
                    self.killed += 1


def test_trials_outlive_their_processes(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    killer = KillsATrial()
    found, _ = run(ray_cluster, split, tmp_path, settings(2, epochs=40), SIDE_BY_SIDE, watcher=killer, epochs=40)
    assert killer.killed
    assert [trial.status for trial in found] == ["finished"] * 2
    assert all([int(row["epoch"]) for row in trial.history] == list(range(1, 41)) for trial in found)
    twice = len(killer.epochs) - len(set(killer.epochs))
    assert twice <= 2, "they go on from their last epochs"


@pytest.mark.thorough
def test_several_workers_train_a_trial_together(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    ray = RayConfig(use_gpu=False, workers_per_trial=2)
    found, counts = run(ray_cluster, split, tmp_path, settings(2), ray)
    assert [trial.status for trial in found] == ["finished"] * 2
    assert all([int(row["epoch"]) for row in trial.history] == [1, 2, 3] for trial in found)
    assert sorted(counts.epochs) == sorted((trial.id, epoch) for trial in found for epoch in (1, 2, 3))
    again, counts = run(ray_cluster, split, tmp_path, settings(2), ray)
    assert [trial.history for trial in again] == [trial.history for trial in found] and not counts.epochs
    with pytest.raises(ConfigError, match=r"pbt needs ray\.workers_per_trial 1"):
        run(ray_cluster, split, tmp_path, settings(3, scheduler="pbt"), ray)
    with pytest.raises(ConfigError, match=r"batch_size: 16 does not divide among 3 workers: .* ray\.workers_"):
        run(ray_cluster, split, tmp_path, settings(3), RayConfig(use_gpu=False, workers_per_trial=3))
    with pytest.raises(TrainingError, match=r"no room for 4 workers\. Lower ray\."):
        run(ray_cluster, split, tmp_path, settings(3), RayConfig(use_gpu=False, workers_per_trial=4))
    with pytest.raises(ConfigError, match=r"workers_per_trial was 1 where it is more"):
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


def test_an_s3_store_keeps_a_search(bucket: str) -> None:
    """On a Ray of its own, whose processes know the store by their environment: asked for twice, trained once."""
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(("RAY", "PYTEST"))}
    env = theirs | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(Path(__file__).with_name("sweep_parts.py")), bucket]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    first, again = map(json.loads, done.stdout.splitlines())
    assert [status for _, status, *_ in first["trials"]] == ["finished"] * 2
    assert again["trials"] == first["trials"] and (first["epochs"], again["epochs"]) == (2 * EPOCHS, 0)
    filesystem, path = pa_fs.FileSystem.from_uri(bucket)
    kept = filesystem.get_file_info(pa_fs.FileSelector(path, recursive=True))
    assert [entry for entry in kept if entry.base_name == "state.json"]
