"""Ray Serve on three nodes: a newer champion reaches every replica, and a node that is killed loses no request."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow_parts import constant_model, free_port, new_store, random_model, registered
from ray_serve_parts import Clients, Replicas, wait_until

from nla import Predictor
from nla.serving.registry import CHAMPION, Registry

pytestmark = [pytest.mark.slow, pytest.mark.thorough]
ROOT, NAME = Path(__file__).parents[2], "nla-tiny"


@contextlib.contextmanager
def on_three_nodes(model: str, **env: str) -> Iterator[tuple[Replicas, Callable[[], None]]]:
    """In a process of its own, as that of the tests may use another Ray; and what kills a node."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, ROOT / "benchmarks/ray_serve.py", model, str(port)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        assert "ready\n" in iter(process.stdout.readline, ""), "it ended"
        yield Replicas(port), lambda: print("kill", file=process.stdin, flush=True)
        process.stdin.close()


def test_a_newer_champion_and_a_killed_node_lose_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that its node does not survive is sent once more; until the kill, none needs to be."""
    uri = new_store(tmp_path, monkeypatch)
    registry = Registry(uri, NAME)
    folders = {registered(registry, uri, make, f"f{n}"): make for n, make in enumerate(
        (random_model(tmp_path / "one"), constant_model(tmp_path / "two", 1)))}  # fmt: skip
    one, two = folders
    alias = registry.client.set_registered_model_alias
    alias(NAME, CHAMPION, one)
    predictors = {version: Predictor.load(folder) for version, folder in folders.items()}
    with on_three_nodes(f"models:/{NAME}@{CHAMPION}", MLFLOW_TRACKING_URI=uri) as (server, kill_a_node):
        server.wait_for_replicas(2)
        clients = Clients(server, predictors, 8)
        try:
            clients.wait_for(50)
            alias(NAME, CHAMPION, two)
            loaded = 'outcome="loaded"'
            wait_until(lambda: list(server.series("nla_model_loads_total", loaded).values()) == [1, 1])
            clients.wait_for(50)
            assert clients.retried == 0
            answered = server.series("nla_requests_total", 'path="/predict"')
            kill_a_node()
            clients.wait_for(200)
        finally:
            clients.end()
        assert len(answered) == 2 and min(answered.values()) > 0
        assert (clients.wrong, clients.lost) == (0, []) and clients.versions == {one, two}
        assert len(server.series("nla_requests_in_flight")) == 1
