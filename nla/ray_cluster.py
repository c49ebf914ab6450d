"""The Ray cluster that runs training and search: connect to a running one, or start Ray on this machine.

`Cluster` answers how many workers or trials fit before anything is submitted: Ray itself would wait silently for
resources that never come.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import psutil
import ray
from ray.exceptions import RayError

from nla.config.ray import RayConfig
from nla.errors import ClusterError

GPU_FRACTION_PER_TRIAL = 0.125
"""Default GPU fraction of one trial; networks for faces of 48 px are too small to fill a GPU."""
LOWER_TRIAL_RESOURCES = "Lower ray.cpus_per_trial, ray.gpus_per_trial or ray.workers_per_trial."
"""The next action when a trial does not fit."""
LOOPBACK = "127.0.0.1"
"""Address of all processes of a Ray of our own, which only this machine reaches."""
PING_TIMEOUT_SECONDS = 10.0
START_ATTEMPTS = 3
STARTUP_TIMEOUT = "timed out during startup"
"""Part of Ray's error message for a node that did not start in time."""
API_SERVER_ENV = "RAY_API_SERVER_ADDRESS"
"""Variable with the dashboard address that Ray's processes query; another Ray's would report them as dead."""
PREEMPTION_WATCHER_ENV = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
"""Switch of Ray Train's preemption watcher, an extra process that looks for nodes a cloud is about to reclaim."""
PRESTART_ENV = "RAY_prestart_worker_first_driver"
"""Switch for starting processes in advance; Ray Train needs others, with their own environment."""


class Node(NamedTuple):
    """Resources of one machine of the cluster."""

    cpus: int
    gpus: int


class WorkerGroup(NamedTuple):
    """The workers of one training run."""

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
    is_local: bool = False
    """Whether this process started the cluster, which then ends with it."""

    def worker_group(self, config: RayConfig) -> WorkerGroup:
        """The most workers that fit within `config.workers`, each with the most CPUs that still fit.

        Raises:
            ClusterError: there are too few CPUs or GPUs; Ray would wait silently for more.
        """
        fewest, most = config.workers
        gpu = self.slots(1, True) >= fewest if config.use_gpu is None else config.use_gpu
        if gpu and (gpus := sum(node.gpus for node in self.nodes)) < fewest:
            raise ClusterError(
                f"ray.use_gpu: true needs one GPU per worker (got {gpus} for {fewest} workers). Set it to null, or "
                "lower ray.num_workers."
            )
        largest = max((node.cpus for node in self.nodes), default=0)
        sizes = [config.cpus_per_worker] if config.cpus_per_worker else range(largest, 0, -1)
        for workers, cpus in itertools.product(range(most, fewest - 1, -1), sizes):
            if self.slots(cpus, gpu) >= workers:
                return WorkerGroup(workers, cpus, gpu)
        have = " + ".join(str(node.cpus) for node in self.nodes)
        each = _amount(config.cpus_per_worker or 1, "CPU") + " and a GPU" * gpu
        raise ClusterError(
            f"ray.num_workers: {_amount(fewest, 'worker')} with {each} each, but the nodes have {have} CPUs, and each "
            "worker must fit on one node. Lower ray.num_workers or ray.cpus_per_worker."
        )

    def describe(self, config: RayConfig) -> str:
        """The worker group in words, with the number of idle GPUs. Raises what `worker_group` raises."""
        workers, cpus, gpu = self.worker_group(config)
        idle = sum(node.gpus for node in self.nodes) - workers * gpu
        line = f"{_amount(workers, 'worker')} with {_amount(cpus, 'CPU')}{' and a GPU' * gpu} each"
        return line + (f"; {_amount(idle, 'GPU')} idle: see ray.num_workers" if idle > 0 else "")

    def trial_resources(self, config: RayConfig) -> dict[str, float]:
        """CPUs and GPU fraction of a run in a single process, several of which share the cluster.

        Raises:
            ClusterError: no node has them; Ray would wait silently for one.
        """
        has_gpu = any(node.gpus for node in self.nodes)
        if config.use_gpu and not has_gpu:
            raise ClusterError("ray.use_gpu: the cluster has no GPU (got true). Set it to null or false.")
        fraction = config.gpus_per_trial
        if fraction is None:
            fraction = GPU_FRACTION_PER_TRIAL if has_gpu else 0.0
        cpus, gpus = float(config.cpus_per_trial), 0.0 if config.use_gpu is False else fraction
        if not any(node.cpus >= cpus and node.gpus >= gpus for node in self.nodes):
            raise ClusterError(f"no node has {cpus:g} CPUs and {gpus:g} GPUs for a trial. {LOWER_TRIAL_RESOURCES}")
        return {"CPU": cpus, "GPU": gpus}

    def max_concurrent(self, resources: Mapping[str, float]) -> int:
        """How many runs with these resources, as returned by `trial_resources`, fit at once."""
        cpus, gpus = resources["CPU"], resources["GPU"]
        return sum(int(min(node.cpus / cpus, node.gpus / gpus if gpus else node.cpus)) for node in self.nodes)

    def slots(self, cpus: int, gpu: bool) -> int:
        """How many workers with `cpus` CPUs, and a GPU each if `gpu`, fit; a worker cannot span two nodes."""
        return sum(min(node.cpus // cpus, node.gpus if gpu else node.cpus) for node in self.nodes)


def _amount(count: int, noun: str) -> str:
    """ "1 CPU", "2 CPUs"."""
    return f"{count} {noun}{'s' * (count != 1)}"


@contextlib.contextmanager
def connected(config: RayConfig, *, dashboard: bool = False) -> Iterator[Cluster]:
    """Connects to the cluster of `ray.address` or RAY_ADDRESS, else to a local one, which ends with the block.

    An existing connection of this process is reused and left open.

    Raises:
        ClusterError: nothing answers, or the address is one of the Ray client, which hides the nodes from the driver.
    """
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise ClusterError(
            f"ray.address: training cannot run through the Ray client (got {address}). Run `dvc repro` on a node of "
            "the cluster with ray.address auto, or submit it with `ray job submit`."
        )
    if ray.is_initialized():
        yield _cluster()
        return
    with local_cluster(dashboard=dashboard) if address == "local" else _joined(address):
        yield _cluster()


@contextlib.contextmanager
def local_cluster(cpus: int | None = None, *, dashboard: bool = False) -> Iterator[None]:
    """Starts Ray on this machine.

    Its processes get the address of their own dashboard; otherwise they would query that of any Ray on this machine.

    Args:
        cpus: number of CPUs; None for those of this machine.
        dashboard: whether to start the dashboard. Only Ray Train inside Ray Tune needs it.

    Raises:
        ClusterError: Ray's processes do not start in time.
    """
    port = _free_port()
    with _environment({API_SERVER_ENV: f"http://{LOOPBACK}:{port}", PREEMPTION_WATCHER_ENV: "0", PRESTART_ENV: "0"}):
        try:
            with _signals_kept(), _minimal_processes(dashboard), _loopback_kept():
                _init_with_retries(
                    address="local",
                    _node_ip_address=LOOPBACK,
                    num_cpus=cpus,
                    include_dashboard=dashboard,
                    dashboard_host=LOOPBACK,
                    dashboard_port=port,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            yield
        finally:
            ray.shutdown()


def _init_with_retries(**options: Any) -> None:
    """Calls `ray.init`, and retries if its node was not up within Ray's 30 s: a busy machine can need longer."""
    before = psutil.Process().children(recursive=True)
    for _ in range(START_ATTEMPTS):
        try:
            ray.init(**options)
            return
        except BaseException as error:  # of Ray, or that a signal ends this process
            for process in [child for child in psutil.Process().children(recursive=True) if child not in before]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            if STARTUP_TIMEOUT not in str(error):
                raise
    raise ClusterError(
        f"Ray did not start in time, in {START_ATTEMPTS} attempts. Try again when the machine is less busy."
    )


@contextlib.contextmanager
def _minimal_processes(dashboard: bool) -> Iterator[None]:
    """Makes `ray.init` start only the processes needed, which none of its parameters can do.

    It leaves out the autoscaler's monitor, the log monitor, whose output no driver of this project reads, and the
    dashboard's server. The node's agent listens on a free port: by default every Ray on a machine uses the same one,
    and the agent of the second tries for 3.5 s to get it while everything else waits for the agent.
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
    """Connects to a running cluster, whose workers get this process's version of the code and the address."""
    environment = {"py_modules": [str(Path(__file__).parent)], "env_vars": {"RAY_ADDRESS": address}}
    try:
        _ping(address)
        with _signals_kept(), _loopback_kept() if _is_only_on_loopback(address) else contextlib.nullcontext():
            ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
    except OSError as error:  # includes ConnectionError
        raise ClusterError(
            f"ray.address: no Ray cluster answers at {address} ({error}). Start one with `ray start --head`, and set "
            "RAY_AUTH_MODE=token on this machine too if the cluster uses tokens."
        ) from None
    except (RayError, RuntimeError) as error:
        raise ClusterError(
            f"ray.address: the Ray cluster at {address} refuses the connection ({str(error).splitlines()[0]}). Set "
            "RAY_AUTH_MODE=token, copy its token to ~/.ray/auth_token, and use its versions of Ray and Python."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _ping(address: str) -> None:
    """Raises OSError if nothing listens at HOST:PORT, where Ray would wait for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=PING_TIMEOUT_SECONDS).close()


def _is_only_on_loopback(address: str) -> bool:
    """Whether HOST:PORT is a Ray like `local_cluster`, which does not answer at the machine's own address."""
    host, _, port = address.rpartition(":")
    if host != LOOPBACK:
        return False
    try:
        _ping(f"{cast(Any, ray.util).get_node_ip_address()}:{port}")
    except OSError:
        return True
    return False


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Keeps the handling of SIGTERM, which Ray takes over twice: in Python, with exit code 15, and in C++, with 134."""
    utils, handler = cast(Any, ray._private.utils), signal.getsignal(signal.SIGTERM)
    take, utils.set_sigterm_handler = utils.set_sigterm_handler, lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = take
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def _loopback_kept() -> Iterator[None]:
    """Keeps Ray from replacing the loopback address by that of the machine, and listening on all interfaces."""
    services = cast(Any, ray._private.services)
    resolve, services.resolve_ip_for_localhost = services.resolve_ip_for_localhost, lambda host: host
    try:
        yield
    finally:
        services.resolve_ip_for_localhost = resolve


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
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _cluster() -> Cluster:
    """The cluster that this process is connected to."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    nodes = tuple(Node(int(each.get("CPU", 0)), int(each.get("GPU", 0))) for each in resources)
    this_node = cast(Any, ray._private.worker._global_node)
    return Cluster(nodes, Path(this_node.get_logs_dir_path()), this_node.is_head())
