"""Ray Train with two workers: a worker that dies, a loss that diverges, going on, and who hears of it."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from training_parts import ALONE, MakeSamples, Watch, checkpoint_of, make_job

from nla.cluster import Cluster
from nla.config.ray import RayConfig
from nla.errors import Diverged, TrainingError
from nla.training.checkpoint import STATE, read_progress
from nla.training.distributed import forget, train_on
from nla.training.job import Job
from nla.training.loop import Split, train
from nla.training.observer import Observer, Silent
from nla.training.store import FolderStore

TWO = RayConfig(num_workers=2, use_gpu=False)


class KillsAWorker(Watch):
    """SIGKILLs a worker when it hears of the first epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.killed: psutil.Process | None = None

    def epoch(self, row: dict[str, float]) -> None:
        super().epoch(row)
        if self.killed is None:
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

    def fit(job: Job, observer: Observer) -> None:
        with train_on(ray_cluster, job, split, TWO, str(storage), observer):
            pass

    killer = KillsAWorker()
    with pytest.raises(TrainingError, match=f"(?s)training failed.*{ray_cluster.logs}"):
        fit(job_of(10_000), killer)
    assert killer.killed is not None
    assert killer.steps and killer.rows[0]["epoch"] == 1

    done = epochs_kept(storage)
    assert done >= 1
    with pytest.raises(Diverged, match=rf"at epoch {done + 1}, step \d: lower train\.lr"):
        fit(job_of(10_000, lr=1e38), Silent())
    assert epochs_kept(storage) == done

    watch = Watch()
    with train_on(ray_cluster, job_of(done + 2), split, TWO, str(storage), watch) as folder:
        progress = read_progress(folder)
        weights = load_file(folder / "last.safetensors")
    assert [row["epoch"] for row in watch.rows] == [done + 1, done + 2]
    assert {epoch for epoch, *_ in watch.steps} == {done, done + 1}
    assert [row["epoch"] for row in progress.history] == list(range(1, done + 3))
    assert progress.facts["workers"] == 2

    train(job_of(done + 2), split, ALONE, FolderStore(tmp_path / "alone"), Silent())
    expected = load_file(checkpoint_of(tmp_path / "alone") / "last.safetensors")
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-5)

    assert epochs_kept(storage) == done + 2
    forget(str(storage), "f" * 16)
    assert not list(storage.glob(f"{'f' * 16}/*/{STATE}"))


def test_forgetting_leaves_the_lock_and_other_runs(tmp_path: Path) -> None:
    for place in ("one/checkpoint_1", "two/checkpoint_1"):
        (tmp_path / place).mkdir(parents=True)
    for name in ("lock", "state.json"):
        (tmp_path / "one" / name).write_text("")
    forget(str(tmp_path), "one")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "one",
        "one/lock",
        "two",
        "two/checkpoint_1",
    ]
    forget(f"file://{tmp_path}", "two")
    assert not list((tmp_path / "two").iterdir())
    forget(str(tmp_path), "never trained")
