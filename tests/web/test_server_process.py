"""The process of `nla serve`: how it starts, who may use it, and how it ends."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from mlflow_parts import random_model, run_python
from patience import PATIENCE
from server_parts import faces, refusal, serving

from nla.commands import serve
from nla.errors import CommandError, WeightsError
from nla.web.body_limit import BodyLimit
from nla.web.guard import is_loopback
from nla.web.limits import ServerLimits
from nla.web.server import bound_socket

TOKEN = "a-token-of-more-than-sixteen-characters"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("model"))


def test_with_a_token_nothing_is_told_without_it(folder: Path) -> None:
    with serving(folder, "--cropped", "--host", "0.0.0.0", cwd=folder, NLA_TOKEN=TOKEN) as server:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        image, right = faces(1)[0], {"Authorization": f"Bearer {TOKEN}"}
        assert server.get("/health").json()["model"] is None and server.get("/health").json()["token"]
        assert server.get("/").status_code == 200  # which asks for it
        wrong = [{}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"},
                 {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Authorization": f"Bearer {TOKEN}x"},
                 {"Authorization": "Bearer"}, {"Authorization": "Bearer \xe4"}]  # fmt: skip
        for headers in wrong:
            for answer in (server.post(image, headers=headers), server.get("/metrics", **headers),
                           server.get("/openapi.json", **headers), server.get("/nothing", **headers)):  # fmt: skip
                assert answer.status_code == 401 and list(answer.json()) == ["error"]
                assert answer.headers["www-authenticate"] == "Bearer"
        assert server.post(image, headers=right).status_code == 200
        assert server.get("/health", **right).json()["model"]["name"] == folder.name
        assert server.get("/metrics", **right).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        assert TOKEN not in server.log()


@pytest.mark.parametrize(
    ("options", "env", "reason"),
    [
        (("--host", "0.0.0.0"), {}, "other machines could use this server, so it needs a token. Set NLA_TOKEN"),
        (("--host", "0.0.0.0"), {"NLA_TOKEN": ""}, "NLA_TOKEN: must have 16 characters at least"),
        ((), {"NLA_TOKEN": "short"}, "NLA_TOKEN: must have 16 characters at least"),
        ((), {"NLA_TOKEN": "with a space inside it"}, "NLA_TOKEN: must have 16 characters at least"),
        (("--host", "no.such.host.invalid"), {"NLA_TOKEN": TOKEN}, "--host no.such.host.invalid: "),
    ],
)
def test_what_cannot_be_served_is_one_line(
    monkeypatch: pytest.MonkeyPatch, folder: Path, options: tuple[str, ...], env: dict[str, str], reason: str
) -> None:
    monkeypatch.delenv("NLA_TOKEN", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CommandError, match=re.escape(reason)) as caught:
        serve.main(["--model", str(folder), "--cropped", *options])
    assert TOKEN not in str(caught.value) and "\n" not in str(caught.value)


def test_a_port_that_is_taken_is_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        with pytest.raises(CommandError, match=r"Address already in use\. Choose another --port"):
            serve.main(["--model", str(folder), "--cropped", "--port", port])


def test_answers_are_not_held_back_by_the_system() -> None:
    """asyncio sets TCP_NODELAY for connections to sockets that state their protocol, and for no others."""
    with bound_socket("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_a_model_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="models: no such file or folder"):
        serve.main(["--model", str(tmp_path / "models"), "--cropped", "--port", "0"])


@pytest.mark.thorough
def test_a_registry_that_is_missing_is_one_line_and_makes_no_store(tmp_path: Path) -> None:
    assert "mlflow.db: no MLflow store" in refusal("models:/nla@champion", "--cropped", cwd=tmp_path)
    assert "not an address of a model" in refusal("models:/nla", "--cropped", cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_a_detector_photos_are_not_taken_for_crops(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("NLA_DETECTORS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"yunet .* Run `nla detector get`"):
        serve.main(["--model", str(folder), "--detector", "yunet", "--port", "0"])


@pytest.mark.parametrize("package", ["fastapi", "python_multipart"])
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, folder: Path, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CommandError, match=rf"the package {package} is missing. Run `pip install -e \.\[serve\]`\."):
        serve.main(["--model", str(folder)])


def test_other_commands_do_not_import_the_servers_packages(tmp_path: Path) -> None:
    code = "import sys, nla.commands.main, nla.commands.serve, nla.commands.predict\n"
    code += "print({'fastapi', 'uvicorn', 'starlette', 'prometheus_client'} & set(sys.modules))"
    done = run_python(code, tmp_path)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.usefixtures("hangup_ends")
@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(each, marks=pytest.mark.thorough) for each in (signal.SIGINT, signal.SIGHUP))],
)
def test_requests_under_way_are_answered_before_the_end(folder: Path, number: signal.Signals) -> None:
    """One is still being sent when the signal comes, others wait for their answers."""
    with serving(folder, "--cropped", cwd=folder) as server:
        body = json.dumps({"images": [base64.b64encode(image).decode() for image in faces(60)]}).encode()
        head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        statuses: list[int] = []
        others = [threading.Thread(target=lambda: statuses.append(server.post(body, "application/json").status_code))
                  for _ in range(4)]  # fmt: skip
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as slow:
            slow.sendall(head.encode() + body[:100])
            for other in others:
                other.start()
            server.wait_until(lambda: in_flight(server.get("/metrics").text) >= 2)
            server.process.send_signal(number)
            time.sleep(0.3)
            slow.sendall(body[100:])
            answer = b"".join(iter(lambda: slow.recv(65536), b""))
        for other in others:
            other.join(PATIENCE)
        assert answer.startswith(b"HTTP/1.1 200 ") and answer.count(b'"label"') == 60
        assert statuses == [200] * 4
        assert server.process.wait(PATIENCE) == 0
        assert server.log() == ""


def in_flight(metrics: str) -> float:
    (line,) = (line for line in metrics.splitlines() if line.startswith("nla_requests_in_flight "))
    return float(line.split()[1])


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.5", False), ("localhost.example", False)],
)  # fmt: skip
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) == expected


def test_bodies_of_all_clients_together_have_a_limit() -> None:
    """Memory is bounded whatever the number of clients: the app is asked directly, with bodies that never end."""

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        while (await receive()).get("more_body"):
            pass

    async def ask(limit: BodyLimit) -> list[int]:
        sent: list[int] = []

        async def receive():  # type: ignore[no-untyped-def]
            await asyncio.sleep(0)
            return {"type": "http.request", "body": bytes(100), "more_body": True}

        async def send(message):  # type: ignore[no-untyped-def]
            if message["type"] == "http.response.start":
                sent.append(message["status"])

        await limit({"type": "http", "headers": [(b"transfer-encoding", b"chunked")]}, receive, send)
        return sent

    async def all_at_once(limits: ServerLimits, clients: int) -> list[int]:
        limit = BodyLimit(app, limits)
        answers = await asyncio.gather(*(ask(limit) for _ in range(clients)))
        statuses = [status for answer in answers for status in answer]
        assert (await ask(limit))[0] in (413, 503)  # what was held is given back
        assert limit._held == limit._requests == 0
        return statuses

    small = asyncio.run(all_at_once(ServerLimits(max_body_bytes=1000, max_held_bytes=5000), 3))
    assert small == [413] * 3
    many = asyncio.run(all_at_once(ServerLimits(max_body_bytes=1000, max_held_bytes=5000), 50))
    assert set(many) == {413, 503} or many == [503] * 50
    crowd = asyncio.run(all_at_once(ServerLimits(max_body_bytes=1000, max_requests=10), 50))
    assert crowd.count(503) == 40


def test_a_client_that_pauses_in_its_body_is_told_so() -> None:
    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        await receive()

    async def ask() -> list[int]:
        sent: list[int] = []

        async def receive():  # type: ignore[no-untyped-def]
            await asyncio.sleep(1000)

        async def send(message):  # type: ignore[no-untyped-def]
            if message["type"] == "http.response.start":
                sent.append(message["status"])

        limit = BodyLimit(app, ServerLimits(body_seconds=0.05))
        await limit(
            {"type": "http", "headers": [(b"content-length", b"5"), (b"expect", b"100-continue")]}, receive, send
        )
        return sent

    assert asyncio.run(ask()) == [408]
