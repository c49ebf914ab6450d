"""Three Ray nodes on this machine, with addresses of their own, each of which can be killed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
from mlflow_parts import free_port
from patience import PATIENCE

RAY = Path(sys.executable).with_name("ray")
ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")  # 127.0.0.1 Ray takes for the machine's own
TOKEN = "b" * 64  # authentication stays on


class Nodes:
    """`ray start` by hand on three addresses of this machine, with one CPU each."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """`folder` is for logs; `environment` is that of a user."""
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
        self._users = dict(environment)
        self.logs = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, ip: str) -> None:
        """One node, up to `stop` or `kill`."""
        head = ["--head", f"--port={self.port}", f"--dashboard-port={free_port()}", "--dashboard-host=127.0.0.1"]
        where = head if ip == ADDRESSES[0] else [f"--address={self.address}"]
        # Each agent listens at 127.0.0.1 too, and would try for seconds to have the port of another.
        where.append(f"--dashboard-agent-listen-port={free_port()}")
        limits = ["--num-cpus=1", "--num-gpus=0", "--object-store-memory=100000000", f"--node-ip-address={ip}"]
        environment = self._users | self.environment
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
        subprocess.run(command, env=self._users | self.environment, check=True, timeout=PATIENCE)

    def kill(self, ip: str) -> None:
        """SIGKILL to all that runs on a node."""
        process = self.processes.pop(ip)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            member.kill()
        process.wait()


@contextlib.contextmanager
def three_nodes(folder: Path, environment: Mapping[str, str]) -> Iterator[Nodes]:
    """All three, up to the end of the block."""
    nodes = Nodes(folder, environment)
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
