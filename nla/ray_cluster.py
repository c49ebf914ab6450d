"""Connects to a running Ray cluster, or starts Ray on this machine."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import psutil
import ray
from ray.exceptions import RayError

from nla.config.ray import RayConfig
from nla.errors import ClusterError

KNOCK_SECONDS = 10.0
API_SERVER = "RAY_API_SERVER_ADDRESS"
"""Variable with the dashboard address that Ray's processes query; another Ray's would report them as dead."""
SHARE_OF_GPU = 0.125
"""Default GPU fraction of one trial; networks for faces of 48 px are too small to fill a GPU."""
LOWER = "lower ray.cpus_per_trial, ray.gpus_per_trial or ray.workers_per_trial"
WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
"""Switch of Ray Train's preemption watcher, an extra process that looks for nodes a cloud is about to reclaim."""
STARTS = 3
LATE = "timed out during startup"
"""Part of Ray's error message for a node that did not start in time."""
PRESTART = "RAY_prestart_worker_first_driver"
"""Switch for starting processes in advance; Ray Train needs others, with an environment of their own."""


class Node(NamedTuple):
    """Resources of one machine of the cluster."""

    cpus: int
    gpus: int


class Share(NamedTuple):
    """Share of a cluster that a training gets."""

    workers: int
    """Number of workers."""
    cpus: int
    """CPUs of each worker."""
    gpu: bool
    """Whether each worker has a GPU."""


@dataclass(frozen=True)
class Cluster:
    """Resources of the Ray cluster."""

    nodes: tuple[Node, ...]
    logs: Path
    """Folder of Ray's full logs on the node of this process."""
    ours: bool = False
    """Whether this process started the cluster, which then ends with it."""

    def share(self, config: RayConfig) -> Share:
        """The most workers that fit within `config.workers`, each with the most CPUs that still fit.

        Raises:
            ClusterError: there are too few CPUs or GPUs; Ray would wait silently for more.
        """
        fewest, most = config.workers
        gpu = self.places(1, True) >= fewest if config.use_gpu is None else config.use_gpu
        if gpu and (gpus := sum(node.gpus for node in self.nodes)) < fewest:
            raise ClusterError(
                f"ray.use_gpu is true, but there are {gpus} GPUs for {fewest} workers: set it to null, or lower "
                "ray.num_workers"
            )
        largest = max((node.cpus for node in self.nodes), default=0)
        sizes = [config.cpus_per_worker] if config.cpus_per_worker else range(largest, 0, -1)
        for workers, cpus in itertools.product(range(most, fewest - 1, -1), sizes):
            if self.places(cpus, gpu) >= workers:
                return Share(workers, cpus, gpu)
        have = " + ".join(str(node.cpus) for node in self.nodes)
        each = f"{config.cpus_per_worker or 1} CPU" + " and a GPU" * gpu
        raise ClusterError(
            f"ray.num_workers {fewest} with {each} each is more than the {have} CPUs there are, a "
            "worker being whole on one node: lower ray.num_workers or ray.cpus_per_worker"
        )

    def told(self, config: RayConfig) -> str:
        """The share in words, with the number of idle GPUs. Raises what `share` raises."""
        workers, cpus, gpu = self.share(config)
        idle = sum(node.gpus for node in self.nodes) - workers * gpu
        line = f"{workers} worker{'s' * (workers > 1)} with {cpus} CPU{'s' * (cpus > 1)}{' and a GPU' * gpu} each"
        return line + (f"; {idle} GPU{'s' * (idle > 1)} idle: see ray.num_workers" if idle > 0 else "")

    def alone(self, config: RayConfig) -> dict[str, float]:
        """CPUs and GPU fraction of a single-process training, several of which run at once.

        Raises:
            ClusterError: no node has them; Ray would wait silently for one.
        """
        there = any(node.gpus for node in self.nodes)
        if config.use_gpu and not there:
            raise ClusterError("ray.use_gpu is true, but the cluster has no GPU: set it to null or false")
        wanted = SHARE_OF_GPU if config.gpus_per_trial is None and there else config.gpus_per_trial or 0.0
        cpus, gpus = float(config.cpus_per_trial), 0.0 if config.use_gpu is False else wanted
        if not any(node.cpus >= cpus and node.gpus >= gpus for node in self.nodes):
            raise ClusterError(f"no node has {cpus:g} CPUs and {gpus:g} GPUs: {LOWER}")
        return {"CPU": cpus, "GPU": gpus}

    def room(self, resources: Mapping[str, float]) -> int:
        """Number of trainings with these resources, as returned by `alone`, that fit at once."""
        cpus, gpus = resources["CPU"], resources["GPU"]
        return sum(int(min(node.cpus / cpus, node.gpus / gpus if gpus else node.cpus)) for node in self.nodes)

    def places(self, cpus: int, gpu: bool) -> int:
        """Number of workers with `cpus` CPUs, and a GPU each if `gpu`, that fit; a worker cannot span two nodes."""
        return sum(min(node.cpus // cpus, node.gpus if gpu else node.cpus) for node in self.nodes)


@contextlib.contextmanager
def connected(config: RayConfig, *, dashboard: bool = False) -> Iterator[Cluster]:
    """Connects to the cluster of `ray.address` or RAY_ADDRESS, else to a Ray started here, which ends with the block.

    An existing connection of this process is reused and left open.

    Raises:
        ClusterError: nobody answers, or the address is one of Ray's client, which hides the nodes from the driver.
    """
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise ClusterError(
            f"ray.address {address} is one of Ray's client, on which training cannot run: run `dvc repro` on a node of "
            "the cluster with ray.address auto, or send it there with `ray job submit`"
        )
    if ray.is_initialized():
        yield _cluster()
        return
    with started(dashboard=dashboard) if address == "local" else _joined(address):
        yield _cluster()


@contextlib.contextmanager
def started(cpus: int | None = None, *, dashboard: bool = False) -> Iterator[None]:
    """Starts Ray on this machine.

    Its processes are told the address of its own dashboard; otherwise they would query that of any Ray on this machine.

    Args:
        cpus: number of CPUs; None for those of this machine.
        dashboard: whether to start the dashboard. Only Ray Train inside Ray Tune needs it.

    Raises:
        ClusterError: Ray's processes do not start in time.
    """
    port = _free_port()
    with _environment({API_SERVER: f"http://127.0.0.1:{port}", WATCHER: "0", PRESTART: "0"}):
        try:
            with _few_processes(dashboard):
                _begin(
                    address="local",
                    num_cpus=cpus,
                    include_dashboard=dashboard,
                    dashboard_host="127.0.0.1",
                    dashboard_port=port,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            yield
        finally:
            ray.shutdown()


def _begin(**options: Any) -> None:
    """Calls `ray.init`, and retries if its node was not up within Ray's 30 s: a busy machine can need longer."""
    before = psutil.Process().children()
    for _ in range(STARTS):
        try:
            ray.init(**options)
            return
        except Exception as error:  # Ray raises no narrower one
            for process in [child for child in psutil.Process().children() if child not in before]:
                process.kill()
            if LATE not in str(error):
                raise
    raise ClusterError(f"Ray's processes did not start, in {STARTS} tries: wait until the machine is less busy")


@contextlib.contextmanager
def _few_processes(dashboard: bool) -> Iterator[None]:
    """Makes `ray.init` start only the processes needed, which none of its parameters can do.

    Left out are the autoscaler's monitor, the log monitor, which no driver here reads, and the dashboard's server. The
    node's agent listens on a free port: Ray would use the same port for each Ray on a machine, where the second one's
    agent tries for 3.5 s to get it while everything else waits for the agent.
    """
    node, module = cast(Any, ray._private.node.Node), cast(Any, ray._private.parameter)
    start, parameters = node.start_api_server, module.RayParams
    module.RayParams = functools.partial(
        parameters, no_monitor=True, include_log_monitor=False, dashboard_agent_listen_port=0
    )
    if not dashboard:
        node.start_api_server = lambda self, **_: None
    try:
        yield
    finally:
        node.start_api_server, module.RayParams = start, parameters


@contextlib.contextmanager
def _joined(address: str) -> Iterator[None]:
    """Connects to a running cluster, and ships this code and the address to its workers, whatever their nodes have."""
    environment = {"py_modules": [str(Path(__file__).parent)], "env_vars": {"RAY_ADDRESS": address}}
    try:
        _knock(address)
        ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
    except OSError as error:  # includes ConnectionError
        raise ClusterError(
            f"no Ray cluster at {address} ({error}): start one with `ray start --head`, and set RAY_AUTH_MODE=token "
            "here if it asks for one"
        ) from None
    except (RayError, RuntimeError) as error:
        raise ClusterError(
            f"the Ray cluster at {address} refuses ({str(error).splitlines()[0]}): it wants RAY_AUTH_MODE=token, its "
            "token in ~/.ray/auth_token, and the same versions of Ray and Python"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raises OSError if nobody listens at HOST:PORT, where Ray would wait for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for processes started inside the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _cluster() -> Cluster:
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    nodes = tuple(Node(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in resources)
    here = cast(Any, ray._private.worker._global_node)
    return Cluster(nodes, Path(here.get_logs_dir_path()), here.is_head())
