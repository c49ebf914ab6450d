from __future__ import annotations

from pathlib import Path

import pytest

from nla.cluster import Cluster, Node, connected
from nla.config.ray import RayConfig
from nla.errors import TrainingError


def cluster(*nodes: tuple[int, int]) -> Cluster:
    """Of nodes with so many (CPUs, GPUs)."""
    return Cluster(tuple(Node(*node) for node in nodes), Path("logs"))


@pytest.mark.parametrize(
    ("of", "config", "expected"),
    [
        (cluster((2, 0)), {}, (2, False)),
        (cluster((7, 0)), {"num_workers": 3}, (2, False)),
        (cluster((8, 0)), {"num_workers": 2, "cpus_per_worker": 1}, (1, False)),
        (cluster((8, 1)), {}, (8, True)),
        (cluster((8, 1)), {"num_workers": 2}, (4, False)),
        (cluster((8, 2)), {"num_workers": 2}, (4, True)),
        (cluster((8, 2)), {"num_workers": 2, "use_gpu": False}, (4, False)),
        (cluster((8, 2)), {"num_workers": 2, "use_gpu": True}, (4, True)),
        # A worker does not lie across nodes: 12 CPUs on two nodes are 3 workers of 3, not of 4.
        (cluster((6, 0), (6, 0)), {"num_workers": 3}, (3, False)),
        (cluster((6, 0), (6, 0)), {"num_workers": 2}, (6, False)),
        (cluster((0, 0), (3, 0), (5, 0)), {"num_workers": 4}, (1, False)),
        (cluster((0, 0), (3, 0), (5, 0)), {"num_workers": 3}, (2, False)),
        (cluster((8, 1), (8, 1)), {"num_workers": 2}, (8, True)),
        (cluster((8, 0), (2, 1)), {"num_workers": 1}, (2, True)),
        (cluster((8, 4), (2, 0)), {"num_workers": 3, "cpus_per_worker": 2, "use_gpu": True}, (2, True)),
    ],
)
def test_what_a_worker_gets(of: Cluster, config: dict[str, int], expected: tuple[int, bool]) -> None:
    assert of.share(RayConfig(**config)) == expected


@pytest.mark.parametrize(
    ("of", "config", "message"),
    [
        (cluster((2, 0)), {"num_workers": 3}, r"ray\.num_workers 3 with 1 CPU each is more than the 2 CPUs"),
        (cluster((4, 0)), {"num_workers": 2, "cpus_per_worker": 3}, r"2 with 3 CPU each is more than the 4 CPUs"),
        (
            cluster((6, 0), (6, 0)),
            {"num_workers": 3, "cpus_per_worker": 4},
            r"3 with 4 CPU each is more than the 6 \+ 6 C",
        ),
        (
            cluster((8, 0), (0, 2)),
            {"num_workers": 2, "use_gpu": True},
            r"2 with 1 CPU and a GPU each is more than the 8 ",
        ),
        (cluster((8, 1)), {"num_workers": 2, "use_gpu": True}, r"use_gpu is true, but there are 1 GPUs for 2 workers"),
    ],
)
def test_too_much_is_refused(of: Cluster, config: dict[str, int], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        of.share(RayConfig(**config))


@pytest.mark.parametrize("where", ["config", "environment"])
def test_an_address_of_rays_client_is_refused(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    address = "ray://127.0.0.1:10001"
    monkeypatch.setenv("RAY_ADDRESS", "auto" if where == "config" else address)
    config = RayConfig(address=address if where == "config" else None)
    with pytest.raises(TrainingError, match=rf"{address} .*ray job submit"), connected(config):
        pass


@pytest.mark.slow
@pytest.mark.ray
def test_a_connection_of_this_process_is_used_and_left(ray_cluster: Cluster) -> None:
    import ray

    for _ in range(2):
        with connected(RayConfig(address="10.0.0.1:6379")) as found:
            assert found == ray_cluster
            assert ([node.cpus for node in found.nodes], found.logs.is_dir()) == ([2], True)
        assert ray.is_initialized()
