"""Errors of Ray as the user reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow_parts import ROOT, run_python
from ray.exceptions import OutOfMemoryError, RayTaskError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from nla.errors import Diverged
from nla.ray_errors import OUT_OF_MEMORY, causes, reason

KILLED = OutOfMemoryError(
    "Task was killed due to the node running low on memory.\nMemory on the node was 15 GB.\nSee https"
)


@pytest.mark.parametrize(
    "error",
    [
        KILLED,
        WorkerGroupError("lost", {1: KILLED, 0: ValueError("its collective was aborted")}),
        ControllerError(KILLED),
        RayTaskError("fit", "Traceback ...", KILLED),
        ControllerError(WorkerGroupError("lost", {0: KILLED})),
    ],
)
def test_lack_of_memory_is_named_with_what_to_lower(error: BaseException) -> None:
    assert reason(error) == OUT_OF_MEMORY
    assert all(key in OUT_OF_MEMORY for key in ("ray.num_workers", "train.batch_size", "ray.images_in_memory"))


def test_other_errors_are_rays_last_line() -> None:
    assert reason(RuntimeError("first\nlast\n")) == "last"
    assert reason(RuntimeError()) == "RuntimeError"


def test_causes_of_workers_come_by_rank() -> None:
    second, first = Diverged("at epoch 2"), Diverged("at epoch 1")
    assert list(causes(WorkerGroupError("lost", {1: second, 0: first})))[1:] == [first, second]


MEMORY_IS_SHORT = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import numpy as np
from nla.config.ray import RayConfig
from nla.data.samples import Samples
from nla.errors import ClusterError
from nla.ray_cluster import connected
from nla.training.ray_train import train_on
from nla.training.trainer import Split
from training_parts import make_job

rng = np.random.default_rng(0)
def samples(n):
    images, labels = rng.integers(0, 255, (n, 16, 16, 1), np.uint8), rng.integers(0, 3, n)
    return Samples(images, labels, None, np.arange(n), tuple("abc"), "t")
config, split = RayConfig(num_workers=1, use_gpu=False), Split(samples(56), samples(31))
try:
    with connected(config) as cluster, train_on(cluster, make_job(epochs=10_000), split, config, "runs"):
        print("trained")
except ClusterError as error:
    print("ClusterError:", error)
"""


@pytest.mark.thorough
@pytest.mark.slow
def test_a_kill_by_rays_memory_monitor(tmp_path: Path) -> None:
    """With a limit that any machine exceeds at once."""
    ended = run_python(
        MEMORY_IS_SHORT, tmp_path, RAY_memory_usage_threshold="0.02", RAY_memory_monitor_refresh_ms="100"
    )
    assert f"ClusterError: training failed: {OUT_OF_MEMORY}\nThe full logs: " in ended.stdout, ended.stderr
    assert "Traceback" not in ended.stdout
