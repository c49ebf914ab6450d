"""Ray Train with two workers: a worker that dies, a loss that diverges, resuming, and the messages to the driver."""

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
from nla.training.checkpoint import STATE, read_progress
from nla.training.checkpoint_store import FolderStore
from nla.training.job import Job
from nla.training.message_queue import MessageQueue, forwarded
from nla.training.ray_train import train_on
from nla.training.trainer import Split, Trainer
from nla.workflow.runs import delete_run

TWO = RayConfig(num_workers=2, use_gpu=False)


class KillsAWorker(CallRecorder):
    """SIGKILLs a worker once it hears of the first epoch: Ray, which lags by two, has registered no checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.killed: psutil.Process | None = None

    def on_epoch_end(self, row: dict[str, float]) -> None:
        super().on_epoch_end(row)
        if self.killed is None:
            self.killed = next(
                p for p in psutil.Process().children(recursive=True) if "TrainWorker" in " ".join(p.cmdline())
            )
            self.killed.kill()


def job_of(epochs: int, lr: float = 0.05) -> Job:
    """Rate and loss do not depend on the planned number of epochs, so these jobs differ only in length."""
    return make_job(epochs=epochs, lr=lr, freeze_batchnorm=True, fingerprint="f" * 16)


def epochs_saved(storage: Path) -> int:
    states = [json.loads(path.read_text()) for path in storage.glob(f"{'f' * 16}/*/{STATE}")]
    return max(state["epochs_done"] for state in states)


@pytest.mark.slow
@pytest.mark.ray
def test_two_workers_die_diverge_and_resume(tmp_path: Path, ray_cluster: Cluster, tiny_samples: MakeSamples) -> None:
    split, storage = Split(tiny_samples(56), tiny_samples(31, seed=1)), tmp_path / "runs"

    def fit(job: Job, *callbacks: Callback) -> None:
        with train_on(ray_cluster, job, split, TWO, str(storage), callbacks):
            pass

    killer = KillsAWorker()
    with pytest.raises(TrainingError, match=f"(?s)training failed.*{ray_cluster.logs}"):
        fit(job_of(10_000), killer)
    assert killer.killed is not None
    assert killer.steps and killer.rows[0]["epoch"] == 1

    with pytest.raises(Diverged, match=r"at epoch \d+, step \d\. Lower train\.lr") as diverged:
        fit(job_of(10_000, lr=1e38))
    done = int(re.findall(r"at epoch (\d+)", str(diverged.value))[0]) - 1
    assert done == epochs_saved(storage) >= killer.rows[-1]["epoch"], "nothing that was reported is trained again"

    calls = CallRecorder()
    with train_on(ray_cluster, job_of(done + 2), split, TWO, str(storage), [calls]) as folder:
        progress = read_progress(folder)
        weights = load_file(folder / "last.safetensors")
    assert [row["epoch"] for row in calls.rows] == [done + 1, done + 2]
    assert {epoch for epoch, *_ in calls.steps} == {done, done + 1}
    assert [row["epoch"] for row in progress.history] == list(range(1, done + 3))
    assert progress.facts["workers"] == 2

    Trainer(job_of(done + 2), split, SINGLE, FolderStore(tmp_path / "single")).fit()
    expected = load_file(checkpoint_of(tmp_path / "single") / "last.safetensors")
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-5)

    assert epochs_saved(storage) == done + 2
    delete_run(str(storage), "f" * 16)
    assert not list(storage.glob(f"{'f' * 16}/*/{STATE}"))


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.ray
def test_an_nla_error_is_not_retried(tmp_path: Path, ray_cluster: Cluster, tiny_samples: MakeSamples) -> None:
    """Lost workers may come back, and a loss that diverges would diverge again: each of its steps is reported once."""
    split, calls = Split(tiny_samples(56), tiny_samples(31, seed=1)), CallRecorder()
    config = RayConfig(num_workers=1, use_gpu=False, max_failures=5)
    with (
        pytest.raises(Diverged, match="at epoch 1"),
        train_on(ray_cluster, job_of(3, lr=1e38), split, config, str(tmp_path), [calls]),
    ):
        pass
    assert len(calls.steps) == len(set(calls.steps)) > 0


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.ray
def test_a_cluster_without_room_is_reported(
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
    """Fails at the end of an epoch."""

    def on_epoch_end(self, row: dict[str, float]) -> None:
        raise OSError("no screen")


@pytest.mark.slow
@pytest.mark.ray
def test_a_failing_callback_neither_stops_training_nor_hides_its_error(
    ray_cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    queue = MessageQueue()
    queue.put("on_epoch_end", {})
    with pytest.raises(TrainingError, match="the reason"), forwarded(queue, Breaks()):
        while "no screen" not in caplog.text:
            time.sleep(0.05)
        raise TrainingError("the reason")


@pytest.mark.ray
def test_messages_arrive_once_and_in_order_and_closing_removes_them(ray_cluster: Cluster) -> None:
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


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.ray
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, ray_cluster: Cluster, tiny_samples: MakeSamples, caplog: pytest.LogCaptureFixture
) -> None:
    split, one = Split(tiny_samples(56), tiny_samples(31, seed=1)), RayConfig(num_workers=1, use_gpu=False)
    with train_on(ray_cluster, job_of(2), split, one, str(tmp_path)) as last:
        damaged = last / "last.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    calls = CallRecorder()
    with train_on(ray_cluster, job_of(3), split, one, str(tmp_path), [calls]) as folder:
        assert read_progress(folder).epochs_done == 3
    assert [row["epoch"] for row in calls.rows] == [2, 3]
    said = [record.getMessage() for record in caplog.records if "Resuming from the checkpoint before" in record.message]
    assert len(said) == 1 and said[0].startswith(f"{damaged}: the file is damaged")
