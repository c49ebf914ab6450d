"""A cluster of three Ray nodes with addresses of their own, one of which dies in the middle of the work."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from mlflow_parts import free_port
from patience import PATIENCE
from tiny_project import Project, user_environment

pytestmark = [pytest.mark.slow, pytest.mark.thorough]
RAY = Path(sys.executable).with_name("ray")
ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")  # 127.0.0.1 Ray takes for the machine's own
TOKEN = "b" * 64  # authentication stays on


class Nodes:
    """`ray start` by hand on three addresses of this machine, with one CPU each."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.address = f"{ADDRESSES[0]}:{self.port}"
        # What `ray start` leaves in the usual folder, for whoever looks for a Ray here, would outlive these nodes.
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # a short path: sockets lie there
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_ADDRESS": self.address,
            "RAY_TMPDIR": self.folder.name,
        }
        self.logs = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, ip: str) -> None:
        """One node, up to `stop` or `kill`."""
        head = ["--head", f"--port={self.port}", f"--dashboard-port={free_port()}", "--dashboard-host=127.0.0.1"]
        where = head if ip == ADDRESSES[0] else [f"--address={self.address}"]
        # Each agent listens at 127.0.0.1 too, and would try for seconds to have the port of another.
        where.append(f"--dashboard-agent-listen-port={free_port()}")
        limits = ["--num-cpus=1", "--num-gpus=0", "--object-store-memory=100000000", f"--node-ip-address={ip}"]
        environment = user_environment() | self.environment
        if ip == ADDRESSES[0]:
            del environment["RAY_ADDRESS"]
        with (self.logs / f"{ip}.log").open("wb") as log:
            self.processes[ip] = subprocess.Popen(
                [RAY, "start", "--block", "--disable-usage-stats", *where, *limits],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, ips: Sequence[str]) -> None:
        """Returns when these nodes, and no others, are alive."""
        command = [sys.executable, "-c", WAIT, *ips]
        subprocess.run(command, env=user_environment() | self.environment, check=True, timeout=PATIENCE)

    def kill(self, ip: str) -> None:
        """SIGKILL to all that runs on a node."""
        process = self.processes.pop(ip)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            member.kill()
        process.wait()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path)
    try:
        for i, ip in enumerate(ADDRESSES, 1):
            nodes.start(ip)
            nodes.wait_for(ADDRESSES[:i])  # the others would give up; two that start at once may be in each other's way
        yield nodes
    finally:
        for ip in reversed(list(nodes.processes)):
            nodes.kill(ip)
        nodes.folder.cleanup()


WAIT = """
import logging, sys, time
import ray
while True:
    try:
        ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
        if sorted(node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]) == sys.argv[1:]:
            break
    except Exception:
        pass
    ray.shutdown()
    time.sleep(0.5)
"""


def test_a_search_and_a_training_outlive_a_node(prepared: Project, nodes: Nodes, tmp_path: Path) -> None:
    project = prepared.copy(tmp_path / "project")
    project.set(
        {
            "tune": {"num_samples": 4, "epochs": 6, "scheduler": "none"},
            "train": {"epochs": 6, "batch_size": 30},
            "ray": {"num_workers": [1, 3], "max_failures": 3},
        }
    )
    search = project.start_dvc("repro", "tune", **nodes.environment)
    search.wait_for(r"trial +1/4")
    nodes.kill(ADDRESSES[1])
    search.wait()
    rows = pq.read_table(project / "reports/tune/trials.parquet").to_pylist()
    assert [(row["status"], row["epochs"]) for row in rows] == [("finished", 6)] * 4

    nodes.start(ADDRESSES[1])
    nodes.wait_for(ADDRESSES)
    # Ray asks for the lost node too, for so long at a time, before it hears that the node is gone.
    room = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"}
    training = project.start_dvc("repro", "train", **nodes.environment, **room)
    training.wait_for(r"epoch +2/6")
    nodes.kill(ADDRESSES[2])
    printed = training.wait()
    assert "Traceback" not in printed
    record = project.read_json("run.json")
    assert [row["epoch"] for row in record["history"]] == list(range(1, 7))
    assert record["facts"]["workers"] == 2
    assert [before["workers"] for before in record["facts"]["before"]] == [3]
