"""Ray Serve on three nodes: a newer champion reaches every replica, and a node that is killed loses no request."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow_parts import constant_model, new_store, random_model, registered
from ray_serve_parts import Clients, replicated, wait_until

from benchmarks.ray_serve import kill, three_nodes
from nla import Predictor
from nla.serving.registry import CHAMPION, Registry

pytestmark = [pytest.mark.slow, pytest.mark.thorough]
NAME = "nla-tiny"


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
    env = {"MLFLOW_TRACKING_URI": uri}
    with three_nodes() as nodes, replicated(f"models:/{NAME}@{CHAMPION}", env=env, cpus=1, poll=1) as server:
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
            kill(nodes[0])
            clients.wait_for(200)
        finally:
            clients.end()
        assert len(answered) == 2 and min(answered.values()) > 0
        assert (clients.wrong, clients.lost) == (0, []) and clients.versions == {one, two}
        assert len(server.series("nla_requests_in_flight")) == 1
