"""Ray Train with two workers: a worker that dies, a loss that diverges, going on, and who hears of it."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path

import psutil
import pytest
import ray
import torch
from ray.util.placement_group import placement_group, remove_placement_group
from safetensors.torch import load_file
from training_parts import SINGLE, CallRecorder, MakeSamples, checkpoint_of, make_job

from nla.config.ray import RayConfig
from nla.errors import Diverged, TrainingError
from nla.ray_cluster import Cluster
from nla.training.callbacks import Callback
from nla.training.checkpoint import STATE, FolderStore, read_progress
from nla.training.job import Job
from nla.training.message_queue import MessageQueue, forwarded
from nla.training.ray_train import train_on
from nla.training.trainer import Split, Trainer
from nla.workflow.runs import delete_run

TWO = RayConfig(num_workers=2, use_gpu=False)


class KillsAWorker(CallRecorder):
    """SIGKILLs a worker when it hears of the fourth epoch: Ray, two behind at most, has noted a checkpoint then."""

    def __init__(self) -> None:
        super().__init__()
        self.killed: psutil.Process | None = None

    def on_epoch_end(self, row: dict[str, float]) -> None:
        super().on_epoch_end(row)
        if self.killed is None and row["epoch"] == 4:
            self.killed = next(
                p for p in psutil.Process().children(recursive=True) if "TrainWorker" in " ".join(p.cmdline())
            )
            self.killed.kill()


def job_of(epochs: int, lr: float = 0.05) -> Job:
    """Neither rate nor loss looks at the planned epochs: each of these is the same training, longer or shorter."""
    return make_job(epochs=epochs, lr=lr, freeze_batchnorm=True, fingerprint="f" * 16)


def epochs_kept(storage: Path) -> int:
    states = [json.loads(path.read_text()) for path in storage.glob(f"{'f' * 16}/*/{STATE}")]
    return max(state["epochs_done"] for state in states)


@pytest.mark.slow
@pytest.mark.ray
def test_two_workers_die_diverge_and_go_on(tmp_path: Path, ray_cluster: Cluster, tiny_samples: MakeSamples) -> None:
    split, storage = Split(tiny_samples(56), tiny_samples(31, seed=1)), tmp_path / "runs"

    def fit(job: Job, *callbacks: Callback) -> None:
        with train_on(ray_cluster, job, split, TWO, str(storage), callbacks):
            pass

    killer = KillsAWorker()
    with pytest.raises(TrainingError, match=f"(?s)training failed.*{ray_cluster.logs}"):
        fit(job_of(10_000), killer)
    assert killer.killed is not None
    assert killer.steps and killer.rows[0]["epoch"] == 1

    with pytest.raises(Diverged, match=r"at epoch \d+, step \d: lower train\.lr") as diverged:
        fit(job_of(10_000, lr=1e38))
    done = int(re.findall(r"at epoch (\d+)", str(diverged.value))[0]) - 1
    assert done >= 1
    # Two may be written whole and not noted by Ray before it kills: one in its queue, one that waits to be in it.
    assert done <= epochs_kept(storage) <= done + 2

    watch = CallRecorder()
    with train_on(ray_cluster, job_of(done + 2), split, TWO, str(storage), [watch]) as folder:
        progress = read_progress(folder)
        weights = load_file(folder / "last.safetensors")
    assert [row["epoch"] for row in watch.rows] == [done + 1, done + 2]
    assert {epoch for epoch, *_ in watch.steps} == {done, done + 1}
    assert [row["epoch"] for row in progress.history] == list(range(1, done + 3))
    assert progress.facts["workers"] == 2

    Trainer(job_of(done + 2), split, SINGLE, FolderStore(tmp_path / "alone")).fit()
    expected = load_file(checkpoint_of(tmp_path / "alone") / "last.safetensors")
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-5)

    assert epochs_kept(storage) == done + 2
    delete_run(str(storage), "f" * 16)
    assert not list(storage.glob(f"{'f' * 16}/*/{STATE}"))


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.ray
def test_an_error_of_ours_is_not_tried_again(tmp_path: Path, ray_cluster: Cluster, tiny_samples: MakeSamples) -> None:
    """Lost workers may come back, and a loss that diverges would diverge again: its steps are told of once."""
    split, watch = Split(tiny_samples(56), tiny_samples(31, seed=1)), CallRecorder()
    config = RayConfig(num_workers=1, use_gpu=False, max_failures=5)
    with (
        pytest.raises(Diverged, match="at epoch 1"),
        train_on(ray_cluster, job_of(3, lr=1e38), split, config, str(tmp_path), [watch]),
    ):
        pass
    assert len(watch.steps) == len(set(watch.steps)) > 0


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.ray
def test_a_cluster_without_room_is_told(
    tmp_path: Path, ray_cluster: Cluster, tiny_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "1")
    split, others = Split(tiny_samples(56), tiny_samples(31, seed=1)), placement_group([{"CPU": 1}])
    try:
        ray.get(others.ready())
        with (
            pytest.raises(TrainingError, match=r"(?s)training failed: .*timed out"),
            train_on(ray_cluster, job_of(1), split, TWO, str(tmp_path)),
        ):
            pass
    finally:
        remove_placement_group(others)


class Breaks(Callback):
    """Cannot show what it hears."""

    def on_epoch_end(self, row: dict[str, float]) -> None:
        raise OSError("no screen")


@pytest.mark.slow
@pytest.mark.ray
def test_who_watches_cannot_stop_a_training_nor_hide_its_error(
    ray_cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    queue = MessageQueue()
    queue.put("on_epoch_end", {})
    with pytest.raises(TrainingError, match="the reason"), forwarded(queue, Breaks()):
        while "no screen" not in caplog.text:
            time.sleep(0.05)
        raise TrainingError("the reason")


@pytest.mark.ray
def test_letters_arrive_in_their_order_once_and_nothing_stays(ray_cluster: Cluster) -> None:
    queue, other = MessageQueue(), MessageQueue()
    rows = [{"epoch": i, "train_loss": math.inf} for i in range(12)]

    @ray.remote
    def send() -> None:
        for row in rows:
            queue.put("on_epoch_end", row)

    ray.get(send.remote())
    other.put("on_step_end", 1, 2, 3, 4)
    assert queue.drain() == [("on_epoch_end", [row]) for row in rows]
    assert queue.drain() == [] and queue.error() is None
    queue.put_error(Diverged("first"))
    queue.put_error(TrainingError("second"))
    failure = queue.error()
    assert isinstance(failure, Diverged) and str(failure) == "first"
    queue.put("on_epoch_end", {})
    queue.close()
    assert queue.drain() == [] and queue.error() is None
    assert other.drain() == [("on_step_end", [1, 2, 3, 4])]
