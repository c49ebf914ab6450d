"""Ray: a running cluster's address, or this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ray

from nla.config.ray import RayConfig
from nla.errors import TrainingError

KNOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Cluster:
    """What there is to run on."""

    cpus: int
    gpus: int
    logs: Path
    """Ray's full logs on the node of this process."""

    def share(self, config: RayConfig) -> tuple[int, bool]:
        """(CPUs a worker, whether each has a GPU). Raises TrainingError where there are too few CPUs."""
        gpu = self.gpus >= config.num_workers if config.use_gpu is None else config.use_gpu
        cpus = config.cpus_per_worker or self.cpus // config.num_workers
        if cpus < 1 or cpus * config.num_workers > self.cpus:
            raise TrainingError(
                f"ray.num_workers {config.num_workers} with {max(cpus, 1)} CPU each is more than the {self.cpus} CPUs "
                "there are: lower ray.num_workers or ray.cpus_per_worker"
            )
        if gpu and self.gpus < config.num_workers:
            raise TrainingError(f"ray.use_gpu is true, but there are {self.gpus} GPUs for {config.num_workers} workers")
        return cpus, gpu


@contextlib.contextmanager
def connected(config: RayConfig) -> Iterator[Cluster]:
    """A connection to the cluster of `ray.address` or RAY_ADDRESS, else to a Ray of our own that ends with us.

    An existing connection of this process is used as it is, and left.
    """
    if ray.is_initialized():
        yield _cluster()
        return
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    local: dict[str, Any] = {"dashboard_host": "127.0.0.1", "include_dashboard": True} if address == "local" else {}
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except OSError as error:  # ConnectionError among them
        raise TrainingError(f"no Ray cluster at {address} ({error}): start one with `ray start --head`") from None
    try:
        yield _cluster()
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """OSError where nobody listens at HOST:PORT, for which Ray would wait some minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()


def _cluster() -> Cluster:
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    logs = Path(cast(Any, ray._private.worker._global_node).get_logs_dir_path())
    return Cluster(int(resources.get("CPU", 0)), int(resources.get("GPU", 0)), logs)
