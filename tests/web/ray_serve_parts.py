"""cluster/serve.yaml on a real Ray of this machine, and clients that compare each answer."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
import requests
from mlflow_parts import ROOT, free_port
from patience import PATIENCE
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve._private.api import serve_start
from ray.serve.schema import ServeDeploySchema
from ruamel.yaml import YAML
from server_parts import Client, faces

from nla import Predictor
from nla.ray_cluster import _minimal_processes, local_cluster

TOLERANCE = 1e-5
SERIES = re.compile(r'^(\w+)\{(?:(.*),)?replica="(\w+)"(?:,(.*))?\} (\S+)$', re.MULTILINE)


class Replicas(Client):
    """The application, as any client sees it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def series(self, name: str, label: str = "", **headers: str) -> dict[str, float]:
        """Replica -> the sum of a series with this label, such as `path="/predict"`."""
        found: dict[str, float] = {}
        answer = self.get("/metrics", **headers)
        while answer.status_code == 503:  # a replica is too busy, or has just been killed
            answer = self.get("/metrics", **headers)
        for series, before, replica, after, value in SERIES.findall(answer.text):
            if series == name and label in f"{before},{after}":
                found[replica] = found.get(replica, 0) + float(value)
        return found

    def wait_for_replicas(self, count: int, **headers: str) -> None:
        """Returns when so many answer: Ray calls an application running before all of its proxies know all replicas."""
        wait_until(lambda: len(self.series("nla_requests_in_flight", **headers)) == count)


@contextlib.contextmanager
def deployed(
    model: Path | str, *, env: dict[str, str] | None = None, replicas: int = 2, **args: Any
) -> Iterator[Replicas]:
    """The file cluster/serve.yaml as `serve run` takes it, with another model and port, on the Ray in use."""
    config = YAML(typ="safe", pure=True).load(ROOT / "cluster/serve.yaml")
    config["http_options"]["port"] = port = free_port()
    (application,) = config["applications"]
    application["args"] |= {"model": str(model), "cropped": True, **args}
    application["runtime_env"] = {"env_vars": env or {}}
    (deployment,) = application["deployments"]
    deployment |= {"num_replicas": replicas, "ray_actor_options": {"num_cpus": 0.5}}
    schema = ServeDeploySchema.model_validate(config)
    options = schema.http_options.model_dump()
    client: Any = serve_start(http_options=options, proxy_location=schema.proxy_location)
    try:
        client.deploy_apps(schema, _blocking=False)
        wait_until(lambda: serve.status().applications["nla"].status == "RUNNING", failing="DEPLOY_FAILED")
        yield Replicas(port)
    finally:
        serve.shutdown()


def wait_until(condition: Any, failing: str = "") -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        application = serve.status().applications["nla"]
        assert time.monotonic() < end and application.status != failing, application
        time.sleep(0.3)


@contextlib.contextmanager
def three_nodes() -> Iterator[list[Any]]:
    """A Ray of three nodes; replicas go to the second and third, which are given."""
    with local_cluster(cpus=0):
        cluster: Any = Cluster()
        cluster.head_node = ray._private.worker._global_node  # type: ignore[attr-defined]
        cluster.redis_address = cluster.head_node.redis_address
        with _minimal_processes(dashboard=False):
            nodes = [
                cluster.add_node(num_cpus=0.5, node_ip_address=f"127.0.0.{n}", object_store_memory=80_000_000)
                for n in (2, 3)
            ]
        try:
            yield nodes
        finally:
            for node in nodes:
                kill(node)


def kill(node: Any) -> None:
    """SIGKILL to all that runs on a node."""
    started = [psutil.Process(each.process.pid) for kind in node.all_processes.values() for each in kind]
    for process in [member for each in started for member in (each, *each.children(recursive=True))]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)


class Clients:
    """Threads that ask without a pause, send what gets no answer or a 5xx once more, and compare each answer."""

    def __init__(self, server: Client, predictors: dict[str | None, Predictor], count: int, **headers: str) -> None:
        """`predictors`: version -> what its answers must be."""
        self._server, self._headers = server, headers
        self._images = faces(16)
        self._expected = {
            version: np.concatenate([predictor.predict([image]).probabilities for image in self._images])
            for version, predictor in predictors.items()
        }
        self.right, self.wrong, self.lost, self.retried = 0, 0, list[str](), 0
        self.versions = set[str | None]()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        while not self._ended.is_set():
            answer = self._once(number % 16)
            if isinstance(answer, str):
                with self._lock:
                    self.retried += 1
                answer = self._once(number % 16)
            with self._lock:
                if isinstance(answer, str):
                    self.lost.append(answer)
                elif self._is_right(answer, number % 16):
                    self.right += 1
                    self.versions.add(answer["model"]["version"])
                else:
                    self.wrong += 1
            number += 1

    def _once(self, number: int) -> Any:
        """The answer, or why there is none."""
        try:
            response = self._server.post(self._images[number], headers=self._headers)
        except requests.ConnectionError as error:
            return str(error)
        return response.json() if response.ok else f"{response.status_code}: {response.text}"

    def _is_right(self, answer: Any, number: int) -> bool:
        p_C = list(answer["images"][0]["faces"][0]["probabilities"].values())
        return bool(np.abs(p_C - self._expected[answer["model"]["version"]][number]).max() < TOLERANCE)

    def wait_for(self, more: int) -> None:
        """Returns after so many further answers, or one that is lost."""
        enough, end = self.right + more, time.monotonic() + PATIENCE
        while self.right < enough and not self.lost:
            assert time.monotonic() < end
            time.sleep(0.05)

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
