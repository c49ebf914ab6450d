"""The cluster: what fits on it, and the Ray processes that this project starts or joins."""

from __future__ import annotations

import shutil
import tempfile
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
from mlflow_parts import ROOT, run_python

from nla.config.ray import RayConfig
from nla.errors import TrainingError
from nla.ray_cluster import Cluster, Node, connected


def cluster(*nodes: tuple[int, int]) -> Cluster:
    """A cluster of nodes with these (CPUs, GPUs)."""
    return Cluster(tuple(Node(*node) for node in nodes), Path("logs"))


@pytest.mark.parametrize(
    ("nodes", "config", "expected"),
    [
        (cluster((2, 0)), {}, (1, 2, False)),
        (cluster((7, 0)), {"num_workers": 3}, (3, 2, False)),
        (cluster((8, 0)), {"num_workers": 2, "cpus_per_worker": 1}, (2, 1, False)),
        (cluster((8, 1)), {}, (1, 8, True)),
        (cluster((8, 1)), {"num_workers": 2}, (2, 4, False)),
        (cluster((8, 2)), {"num_workers": 2}, (2, 4, True)),
        (cluster((8, 2)), {"num_workers": 2, "use_gpu": False}, (2, 4, False)),
        (cluster((8, 2)), {"num_workers": 2, "use_gpu": True}, (2, 4, True)),
        # A worker does not span nodes: 12 CPUs on two nodes are 3 workers of 3, not of 4.
        (cluster((6, 0), (6, 0)), {"num_workers": 3}, (3, 3, False)),
        (cluster((6, 0), (6, 0)), {"num_workers": 2}, (2, 6, False)),
        (cluster((0, 0), (3, 0), (5, 0)), {"num_workers": 4}, (4, 1, False)),
        (cluster((0, 0), (3, 0), (5, 0)), {"num_workers": 3}, (3, 2, False)),
        (cluster((8, 1), (8, 1)), {"num_workers": 2}, (2, 8, True)),
        (cluster((8, 0), (2, 1)), {"num_workers": 1}, (1, 2, True)),
        (cluster((8, 4), (2, 0)), {"num_workers": 3, "cpus_per_worker": 2, "use_gpu": True}, (3, 2, True)),
        # As many workers as fit, up to the maximum.
        (cluster((8, 0)), {"num_workers": (1, 4)}, (4, 2, False)),
        (cluster((3, 0)), {"num_workers": (1, 4)}, (3, 1, False)),
        (cluster((8, 0)), {"num_workers": (1, 4), "cpus_per_worker": 3}, (2, 3, False)),
        (cluster((8, 2)), {"num_workers": (1, 4)}, (2, 4, True)),
        (cluster((8, 2)), {"num_workers": (3, 4)}, (4, 2, False)),
    ],
)
def test_worker_group_fits_the_nodes(nodes: Cluster, config: dict[str, int], expected: tuple[int, int, bool]) -> None:
    assert nodes.worker_group(RayConfig(**config)) == expected


@pytest.mark.parametrize(
    ("nodes", "config", "expected"),
    [
        (cluster((2, 0)), {}, "1 worker with 2 CPUs each"),
        (cluster((8, 1)), {}, "1 worker with 8 CPUs and a GPU each"),
        (cluster((8, 4)), {}, "1 worker with 8 CPUs and a GPU each; 3 GPUs idle: see ray.num_workers"),
        (cluster((3, 1)), {"num_workers": 2}, "2 workers with 1 CPU each; 1 GPU idle: see ray.num_workers"),
    ],
)
def test_describe_names_workers_and_idle_gpus(nodes: Cluster, config: dict[str, int], expected: str) -> None:
    assert nodes.describe(RayConfig(**config)) == expected


@pytest.mark.parametrize(
    ("nodes", "config", "message"),
    [
        (
            cluster((2, 0)),
            {"num_workers": 3},
            r"ray\.num_workers: 3 workers with 1 CPU each, but the nodes have 2",
        ),
        (
            cluster((4, 0)),
            {"num_workers": 2, "cpus_per_worker": 3},
            r"2 workers with 3 CPUs each, but the nodes have 4",
        ),
        (
            cluster((6, 0), (6, 0)),
            {"num_workers": 3, "cpus_per_worker": 4},
            r"3 workers with 4 CPUs each, but the nodes have 6 \+ 6 CPUs, and each worker must fit on one node",
        ),
        (
            cluster((8, 0), (0, 2)),
            {"num_workers": 2, "use_gpu": True},
            r"2 workers with 1 CPU and a GPU each, but the nodes have 8 ",
        ),
        (
            cluster((2, 0)),
            {"num_workers": (3, 4)},
            r"ray\.num_workers: 3 workers with 1 CPU each, but the nodes have 2",
        ),
        (
            cluster((8, 1)),
            {"num_workers": 2, "use_gpu": True},
            r"one GPU per worker \(got 1 for 2 workers\)",
        ),
    ],
)
def test_worker_group_that_does_not_fit_is_an_error(nodes: Cluster, config: dict[str, int], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        nodes.worker_group(RayConfig(**config))


@pytest.mark.parametrize("where", ["config", "environment"])
def test_ray_client_address_is_refused(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    address = "ray://127.0.0.1:10001"
    monkeypatch.setenv("RAY_ADDRESS", "auto" if where == "config" else address)
    config = RayConfig(address=address if where == "config" else None)
    with pytest.raises(TrainingError, match=rf"{address}.*ray job submit"), connected(config):
        pass


@pytest.mark.ray
def test_a_ray_of_our_own_listens_on_this_machine_only(ray_cluster: Cluster) -> None:
    """Control store, raylet, agents with their metrics, dashboard, workers, and the driver."""
    this = psutil.Process()
    listening = [
        (process.name(), socket.laddr.ip)
        for process in (this, *this.children(recursive=True))
        for socket in process.net_connections("inet")
        if socket.status == psutil.CONN_LISTEN
    ]
    assert {"gcs_server", "raylet"} <= {name for name, _ in listening}
    assert not [each for each in listening if not ip_address(each[1].removeprefix("::ffff:")).is_loopback]


@pytest.mark.slow
@pytest.mark.ray
def test_existing_connection_is_reused_and_left_open(ray_cluster: Cluster) -> None:
    import ray

    for _ in range(2):
        with connected(RayConfig(address="10.0.0.1:6379")) as found:
            assert found == ray_cluster
            assert ([node.cpus for node in found.nodes], found.logs.is_dir()) == ([2], True)
        assert ray.is_initialized()


WHERE = """
from pathlib import Path
import ray
from nla.ray_cluster import connected
from nla.config.ray import RayConfig

@ray.remote(num_cpus=0)
def where():
    import nla.driver_only
    return nla.driver_only.__file__

with connected(RayConfig(address={address!r})):
    Path("nla").rename("elsewhere")  # other nodes do not have this folder
    print(ray.get(where.remote()))
"""


@pytest.mark.slow
@pytest.mark.ray
def test_workers_run_the_code_of_the_driver(ray_cluster: Cluster, tmp_path: Path) -> None:
    import ray

    shutil.copytree(ROOT / "nla", tmp_path / "nla", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "nla/driver_only.py").touch()
    code = WHERE.format(address=ray.get_runtime_context().gcs_address)
    done = run_python(code, tmp_path, PYTHONPATH=str(tmp_path), RAY_AUTH_MODE="token")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("driver_only.py\n")


ALIVE = """
import ray
from ray.util.state import get_actor
from nla.ray_cluster import connected
from nla.config.ray import RayConfig

@ray.remote(num_cpus=0)
class Actor:
    def state(self):
        return get_actor(ray.get_runtime_context().get_actor_id()).state

with connected(RayConfig(), dashboard=True):
    print(ray.get(Actor.remote().state.remote()))
"""


@pytest.mark.thorough
@pytest.mark.slow
def test_local_ray_is_not_mistaken_for_another_one() -> None:
    """The last `ray start` on this machine left its address behind."""
    with tempfile.TemporaryDirectory() as folder:  # a short path, as Ray puts its sockets there
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray/ray_current_cluster").write_text("127.0.0.9:1")
        done = run_python(ALIVE, Path(folder), RAY_TMPDIR=folder)
    assert (done.returncode, done.stdout) == (0, "ALIVE\n"), done.stderr


PROCESSES = """
from pathlib import Path
import psutil
from nla.ray_cluster import connected
from nla.config.ray import RayConfig

with connected(RayConfig()) as cluster:
    assert cluster.is_local
    processes = psutil.Process().children(recursive=True)
    print(len(processes), *(name in str([process.cmdline() for process in processes]) for name in {names!r}))
    print("Failed" in (cluster.logs / "dashboard_agent.log").read_text())
"""


@pytest.mark.slow
@pytest.mark.ray
def test_local_ray_starts_few_processes_and_does_not_wait_for_another(ray_cluster: Cluster) -> None:
    """Another Ray already runs, and has the usual ports."""
    done = run_python(PROCESSES.format(names=["gcs_server", "log_monitor.py", "dashboard.py"]), ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "4 True False False\nFalse\n", "the other two: the raylet and its runtime env agent"


FAILING_NODE = """
import psutil, ray
from ray._private.node import Node
from nla.ray_cluster import connected
from nla.config.ray import RayConfig

init, errors = Node.__init__, {errors}

def failing_init(self, *args, **options):
    init(self, *args, **options)
    if errors:
        raise Exception(errors.pop())

Node.__init__ = failing_init
with connected(RayConfig()):
    raylets = [child for child in psutil.Process().children() if child.name() == "raylet"]
    print(len(raylets), ray.get(ray.remote(lambda: 7).remote()))
"""
TIMED_OUT = "The current node timed out during startup. This could happen because ..."


@pytest.mark.thorough
@pytest.mark.slow
def test_node_that_starts_too_slowly_is_restarted(tmp_path: Path) -> None:
    """Ray allows 30 seconds. Processes of the first attempt are gone."""
    done = run_python(FAILING_NODE.format(errors=[TIMED_OUT]), tmp_path)
    assert (done.returncode, done.stdout) == (0, "1 7\n"), done.stderr


@pytest.mark.thorough
@pytest.mark.slow
def test_node_that_fails_is_reported(tmp_path: Path) -> None:
    done = run_python(FAILING_NODE.format(errors=["No room on the disk."]), tmp_path)
    assert done.returncode == 1 and done.stderr.endswith("Exception: No room on the disk.\n")
    done = run_python(FAILING_NODE.format(errors=[TIMED_OUT] * 3), tmp_path)
    assert done.returncode == 1 and "Try again when the machine is less busy" in done.stderr
