from __future__ import annotations

from pathlib import Path

import pytest

from nla.cluster import Cluster, connected
from nla.config.ray import RayConfig
from nla.errors import TrainingError


def cluster(cpus: int, gpus: int = 0) -> Cluster:
    return Cluster(cpus, gpus, Path("logs"))


@pytest.mark.parametrize(
    ("of", "config", "expected"),
    [
        (cluster(2), {}, (2, False)),
        (cluster(7), {"num_workers": 3}, (2, False)),
        (cluster(8), {"num_workers": 2, "cpus_per_worker": 1}, (1, False)),
        (cluster(8, 1), {}, (8, True)),
        (cluster(8, 1), {"num_workers": 2}, (4, False)),
        (cluster(8, 2), {"num_workers": 2}, (4, True)),
        (cluster(8, 2), {"num_workers": 2, "use_gpu": False}, (4, False)),
        (cluster(8, 2), {"num_workers": 2, "use_gpu": True}, (4, True)),
    ],
)
def test_what_a_worker_gets(of: Cluster, config: dict[str, int], expected: tuple[int, bool]) -> None:
    assert of.share(RayConfig(**config)) == expected


@pytest.mark.parametrize(
    ("of", "config", "message"),
    [
        (cluster(2), {"num_workers": 3}, r"ray\.num_workers 3 with 1 CPU each is more than the 2 CPUs"),
        (cluster(4), {"num_workers": 2, "cpus_per_worker": 3}, r"2 with 3 CPU each is more than the 4 CPUs"),
        (cluster(8, 1), {"num_workers": 2, "use_gpu": True}, r"use_gpu is true, but there are 1 GPUs for 2 workers"),
    ],
)
def test_too_much_is_refused(of: Cluster, config: dict[str, int], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        of.share(RayConfig(**config))


@pytest.mark.slow
@pytest.mark.ray
def test_a_connection_of_this_process_is_used_and_left(ray_cluster: Cluster) -> None:
    import ray

    for _ in range(2):
        with connected(RayConfig(address="10.0.0.1:6379")) as found:
            assert found == ray_cluster
            assert (found.cpus, found.logs.is_dir()) == (2, True)
        assert ray.is_initialized()
