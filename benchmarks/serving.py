"""`nla serve` beside `mlflow models serve`: requests per second and their times, at 1, 16 and 64 clients.

    python benchmarks/serving.py --model models
    python benchmarks/serving.py --model models --record    # benchmarks/records/serving.json

Both serve the same weights on the loopback interface, and get the same images as base64 in JSON, from clients that send
the next one when the last is answered. Servers take turns, in reverse order in every second round, so that disturbances
affect both alike. Every answer is compared with `Predictor.predict` on that image alone: one that differs by more than
1e-5 is wrong.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from records import measured_here, write_record

from nla import Predictor
from nla.data.images import encode_png
from nla.serving.logged import log_served_model
from nla.tracking import MlflowTracker, configure

CLIENTS = (1, 16, 64)
IMAGES = 64
TOLERANCE = 1e-5
PATIENCE = 180.0  # seconds until a server must answer


@dataclass(frozen=True)
class Kind:
    """A server, and how it is asked."""

    address: tuple[str, int]
    path: str
    body: Callable[[str], bytes]
    """Base64 of an image -> body of the request."""
    probabilities: Callable[[Any], list[float]]
    """Answer -> probabilities in the order of the model's classes."""


@dataclass
class Load:
    """What the clients of one turn have seen."""

    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    failed: int = 0


def nla_kind(port: int, classes: tuple[str, ...]) -> Kind:
    """`nla serve`."""

    def probabilities(answer: Any) -> list[float]:
        named = answer["images"][0]["faces"][0]["probabilities"]
        return [named[name] for name in classes]

    return Kind(("127.0.0.1", port), "/predict", lambda image: json.dumps({"images": [image]}).encode(), probabilities)


def mlflow_kind(port: int) -> Kind:
    """`mlflow models serve`."""
    return Kind(
        ("127.0.0.1", port),
        "/invocations",
        lambda image: json.dumps({"inputs": [image]}).encode(),
        lambda answer: list(answer["predictions"][0]["probabilities"]),
    )


def measure(kind: Kind, images: list[bytes], expected_NC: np.ndarray, clients: int, seconds: float) -> dict[str, float]:
    """Requests per second, and times in milliseconds, of one turn."""
    bodies = [kind.body(base64.b64encode(image).decode()) for image in images]
    loads, start = [Load() for _ in range(clients)], threading.Barrier(clients + 1)
    end = [0.0]

    def ask(number: int) -> None:
        connection, load, n = http.client.HTTPConnection(*kind.address, timeout=PATIENCE), loads[number], number
        start.wait()
        while time.perf_counter() < end[0]:
            began = time.perf_counter()
            connection.request("POST", kind.path, bodies[n % IMAGES], {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            load.seconds.append(time.perf_counter() - began)
            if response.status != 200:
                load.failed += 1
            elif np.abs(kind.probabilities(json.loads(content)) - expected_NC[n % IMAGES]).max() > TOLERANCE:
                load.wrong += 1
            n += clients
        connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    end[0] = time.perf_counter() + seconds
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    times = sorted(1000 * each for load in loads for each in load.seconds)
    return {
        "requests_per_second": len(times) / took,
        "p50_ms": times[len(times) // 2],
        "p99_ms": times[min(len(times) * 99 // 100, len(times) - 1)],
        "requests": len(times),
        "wrong": sum(load.wrong for load in loads),
        "failed": sum(load.failed for load in loads),
    }


@contextlib.contextmanager
def process(command: list[str], log: Path, port: int, store: str) -> Iterator[None]:
    """A server that answers on `port`, in a process group of its own, which ends with the block."""
    with log.open("w") as output:
        environment = os.environ | {"MLFLOW_TRACKING_URI": store}
        server = subprocess.Popen(
            command, cwd=log.parent, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        end = time.monotonic() + PATIENCE
        while True:
            if server.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"no server: {log.read_text()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    break
            time.sleep(0.2)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def logged(root: Path, models: Path) -> tuple[str, str]:
    """The model in a store of its own; the addresses of both."""
    store = configure(root)
    tracker = MlflowTracker(store, system_metrics=False)
    run_id = tracker.start("serving", {}, {})
    tracker.finish()
    return store, str(log_served_model(run_id, models).model_uri)


def main() -> None:
    """Measures, prints a line per server and number of clients, and writes the record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a model")
    parser.add_argument("--seconds", type=float, default=10, help="of a turn (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--record", action="store_true", help="write benchmarks/records/serving.json")
    options = parser.parse_args()
    models = options.model.absolute()
    predictor = Predictor.load(models)
    rng, side = np.random.default_rng(0), predictor.model.image.size
    images = [encode_png(rng.integers(0, 256, (side, side), np.uint8)) for _ in range(IMAGES)]
    expected_NC = np.concatenate([predictor.predict([image]).probabilities for image in images])
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as servers:
        root = Path(folder)
        store, address = logged(root, models)
        ours, theirs = free_port(), free_port()
        run = [sys.executable, "-m"]
        serve = [*run, "nla.commands.main", "serve", "--cropped", "--model", str(models), "--port", str(ours)]
        servers.enter_context(process(serve, root / "nla.log", ours, store))
        mlflow = [*run, "mlflow", "models", "serve", "-m", address, "--env-manager", "local", "--port", str(theirs)]
        servers.enter_context(process(mlflow, root / "mlflow.log", theirs, store))
        kinds = {"nla serve": nla_kind(ours, predictor.classes), "mlflow models serve": mlflow_kind(theirs)}
        turns: dict[tuple[str, int], list[dict[str, float]]] = {}
        for each in range(options.rounds):
            for clients in CLIENTS:
                for name in list(kinds)[:: -1 if each % 2 else 1]:
                    found = measure(kinds[name], images, expected_NC, clients, options.seconds)
                    turns.setdefault((name, clients), []).append(found)
    rows = [row(name, clients, found) for (name, clients), found in turns.items()]
    for line in rows:
        print(
            f"{line['server']:20} {line['clients']:3} clients: {line['requests_per_second']:7.1f} requests/s, "
            f"p50 {line['p50_ms']:7.1f} ms, p99 {line['p99_ms']:7.1f} ms, {line['wrong']} wrong and "
            f"{line['failed']} failed of {line['requests']}"
        )
    if options.record:
        write_record("serving", {**measured_here(), "rounds": options.rounds, "rows": rows})


def row(server: str, clients: int, turns: list[dict[str, float]]) -> dict[str, Any]:
    """Medians over the rounds, with the range of requests per second; sums of answers."""
    medians = {
        name: statistics.median(turn[name] for turn in turns) for name in ("requests_per_second", "p50_ms", "p99_ms")
    }
    rates = [turn["requests_per_second"] for turn in turns]
    sums = {name: int(sum(turn[name] for turn in turns)) for name in ("requests", "wrong", "failed")}
    return {"server": server, "clients": clients, **medians, "range": [min(rates), max(rates)], **sums}


if __name__ == "__main__":
    main()
