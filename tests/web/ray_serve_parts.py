"""cluster/serve.yaml on a real Ray of this machine, and clients that compare each answer."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import requests
from mlflow_parts import free_port
from patience import PATIENCE
from server_parts import Client, faces

from benchmarks.ray_serve import deployed
from nla import Predictor

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
def replicated(model: Path | str, *, env: Mapping[str, str], cpus: float, **args: Any) -> Iterator[Replicas]:
    """Two replicas of cluster/serve.yaml, with this model, on a free port of the Ray in use."""
    port, options = free_port(), {"ray_actor_options": {"num_cpus": cpus}}
    with deployed(port, {"model": str(model), "cropped": True, **args}, options, env):
        yield Replicas(port)


def wait_until(condition: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.3)


PAUSE = 0.5
"""Seconds before a request is sent again, as clients wait: a node's processes do not all end at once."""


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
                time.sleep(PAUSE)
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
