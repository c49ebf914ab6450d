"""The application under Ray Serve: several replicas answer as one `nla serve` does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_parts import random_model
from ray_serve_parts import Clients, Replicas, replicated
from server_parts import faces

from nla import Predictor
from nla.web.answers import Health

pytestmark = [pytest.mark.ray, pytest.mark.thorough]
TOKEN = "t" * 20
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(folder: Path, ray_cluster: object) -> Iterator[Replicas]:
    with replicated(folder, env={"NLA_TOKEN": TOKEN}, cpus=0.5, max_body=100_000, batch_wait=20) as replicas:
        replicas.wait_for_replicas(2, **HEADERS)
        yield replicas


def test_replicas_answer_as_the_predictor_in_batches(server: Replicas, folder: Path) -> None:
    clients = Clients(server, {None: Predictor.load(folder)}, 8, **HEADERS)
    try:
        clients.wait_for(100)
    finally:
        clients.end()
    assert (clients.wrong, clients.lost, clients.retried) == (0, [], 0)
    answered = server.series("nla_requests_total", 'path="/predict"', **HEADERS)
    assert len(answered) == 2 and min(answered.values()) > 10 and sum(answered.values()) == clients.right
    assert sum(server.series("nla_faces_total", **HEADERS).values()) == clients.right
    assert sum(server.series("nla_batch_faces_count", **HEADERS).values()) < clients.right / 1.5


def test_replicas_refuse_what_one_server_refuses(server: Replicas) -> None:
    (image,) = faces(1)
    assert server.post(image).status_code == 401
    assert server.post(image, headers=HEADERS | {"Host": "elsewhere.example"}).status_code == 421
    assert server.post(image, headers=HEADERS | {"Origin": "http://elsewhere.example"}).status_code == 403
    too_large = server.post(bytes(100_001), headers=HEADERS)
    assert too_large.status_code == 413 and "more than 100,000 bytes" in too_large.json()["error"]
    assert server.post(b"no image", headers=HEADERS).status_code == 422
    assert server.get("/health").json() == Health(ready=True, token=True).model_dump()
    assert server.get("/health", **HEADERS).json()["model"]["name"]


def test_the_page_and_the_interface_are_there(server: Replicas) -> None:
    page = server.get("/")
    assert page.ok and "nonce-" in page.headers["Content-Security-Policy"]
    assert "/predict" in server.get("/openapi.json", **HEADERS).json()["paths"]
