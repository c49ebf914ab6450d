"""cluster/serve.yaml on a Ray of three nodes on this machine, one of which can be killed.

    python benchmarks/ray_serve.py MODEL PORT     # prints a line `ready`; a line `kill` of its input kills a node, and
                                                  # its end ends it. MLFLOW_TRACKING_URI is the replicas', too.

The first node has Ray's head and a proxy; the others have a replica and a proxy each. All proxies listen on the same
port, among which the system divides connections, as a load balancer does on real machines.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.exceptions import RayError
from ray.serve._private.api import serve_start
from ray.serve.schema import ServeDeploySchema
from ruamel.yaml import YAML

from nla.ray_cluster import _minimal_processes, local_cluster

FILE = Path(__file__).parents[1] / "cluster/serve.yaml"
PATIENCE = 600.0  # seconds until the replicas must be up
MEMORY = 80_000_000  # bytes of a node's object store, about the smallest that Ray takes


@contextlib.contextmanager
def three_nodes() -> Iterator[list[Any]]:
    """A Ray of three nodes with addresses of their own; the second and third, which have a CPU each."""
    with local_cluster(cpus=0):
        cluster: Any = Cluster()
        cluster.head_node = ray._private.worker._global_node  # type: ignore[attr-defined]
        cluster.redis_address = cluster.head_node.redis_address
        nodes: list[Any] = []
        try:
            with _minimal_processes(dashboard=False):
                for ip in ("127.0.0.2", "127.0.0.3"):
                    nodes.append(cluster.add_node(num_cpus=1, node_ip_address=ip, object_store_memory=MEMORY))
            yield nodes
        finally:
            for node in nodes:
                kill(node)


def kill(node: Any) -> None:
    """SIGKILL to all that runs on a node."""
    started = [each.process.pid for kind in node.all_processes.values() for each in kind]
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [psutil.Process(pid) for pid in started]:
            for member in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
    node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)


@contextlib.contextmanager
def deployed(port: int, args: Mapping[str, Any], options: Mapping[str, Any], env: Mapping[str, str]) -> Iterator[None]:
    """The application of cluster/serve.yaml on the Ray in use, with other values of `args` and of its deployment."""
    config = YAML(typ="safe", pure=True).load(FILE)
    config["http_options"]["port"] = port
    (application,) = config["applications"]
    application["args"] |= args
    application["runtime_env"] = {"env_vars": dict(env)}
    application["deployments"][0] |= options
    schema = ServeDeploySchema.model_validate(config)
    try:
        client = _started(schema)
        client.deploy_apps(schema, _blocking=False)
        end = time.monotonic() + PATIENCE
        while (state := serve.status().applications["nla"]).status != "RUNNING":
            if state.status == "DEPLOY_FAILED" or time.monotonic() > end:
                raise SystemExit(str(state))
            time.sleep(0.3)
        yield
    finally:
        serve.shutdown()


def _started(schema: ServeDeploySchema) -> Any:
    """A client of Serve, which `serve run` starts in this way; its proxies may take longer than Ray's 60 s."""
    options = {"http_options": schema.http_options.model_dump(), "proxy_location": schema.proxy_location}
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return serve_start(**options, controller_options=schema.controller_options)
        except (TimeoutError, RayError):
            if time.monotonic() > end:
                raise


def main() -> None:
    """Serves until the end of the standard input."""
    model, port = sys.argv[1:]
    env = {name: value for name, value in os.environ.items() if name == "MLFLOW_TRACKING_URI"}
    with three_nodes() as nodes, deployed(int(port), {"model": model, "cropped": True, "poll": 1}, {}, env):
        print("ready", flush=True)
        for line in sys.stdin:
            if line.strip() == "kill":
                kill(nodes[0])


if __name__ == "__main__":
    main()
