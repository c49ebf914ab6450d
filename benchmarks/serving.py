"""`nla serve`, Ray Serve and `mlflow models serve`: requests per second and their times, at 1, 16 and 64 clients.

    python benchmarks/serving.py measure --model models             # about five minutes
    python benchmarks/serving.py measure --model models --record    # benchmarks/records/serving.json
    python benchmarks/serving.py tables                             # the record -> docs/serving.md

All serve the same weights on the loopback interface, and get the same images as base64 in JSON, from clients that send
the next one when the last is answered. Ray Serve has two replicas on three nodes of this machine. Servers take turns,
in reverse order in every second round, so that disturbances affect all alike. Every answer is compared with
`Predictor.predict` on that image alone: one that differs by more than 1e-5 is wrong. A request that gets no answer, or
one of 5xx, is sent once more; one that fails again is lost. In a last turn a node of Ray is killed.
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
from records import ROOT, conditions, measured_here, read_record, write_record

from nla import Predictor
from nla.data.images import encode_png
from nla.serving.logged import log_served_model
from nla.tracking import MlflowTracker, configure

CLIENTS = (1, 16, 64)
KILL_CLIENTS = 16
IMAGES = 64
TOLERANCE = 1e-5
PATIENCE = 180.0  # seconds until a server must answer
RECORD = "serving"
PAGE = ROOT / "docs/serving.md"
MARKS = ("<!-- python benchmarks/serving.py tables -->\n", "<!-- end of the table -->\n")
RAY = "Ray Serve"
ENDING = 60.0  # seconds that Ray may take to end


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
    retried: int = 0
    lost: int = 0


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


PAUSE = 0.5
"""Seconds before a request is sent again, as clients wait: a node's processes do not all end at once."""


class Client:
    """One connection, which is made again after a failure."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._connection = http.client.HTTPConnection(*kind.address, timeout=PATIENCE)

    def ask(self, body: bytes, load: Load) -> bytes | None:
        """The answer, after one retry at most; None if the request is lost. Its time covers both attempts."""
        began = time.perf_counter()
        answer = self._once(body)
        if answer is None:
            load.retried += 1
            time.sleep(PAUSE)
            answer = self._once(body)
            load.lost += answer is None
        load.seconds.append(time.perf_counter() - began)
        return answer

    def _once(self, body: bytes) -> bytes | None:
        try:
            self._connection.request("POST", self._kind.path, body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return None
        if response.status >= 400:
            self.close()  # so that a balancer can choose another server
            return None
        return content

    def close(self) -> None:
        """Ends the connection; the next request makes a new one."""
        self._connection.close()


def measure(
    kind: Kind,
    images: list[bytes],
    expected_NC: np.ndarray,
    clients: int,
    seconds: float,
    halfway: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Requests per second, and times in milliseconds, of one turn; `halfway` is called in its middle."""
    bodies = [kind.body(base64.b64encode(image).decode()) for image in images]
    loads, start = [Load() for _ in range(clients)], threading.Barrier(clients + 1)
    end = [0.0]

    def ask(number: int) -> None:
        client, load, n = Client(kind), loads[number], number
        start.wait()
        while time.perf_counter() < end[0]:
            content = client.ask(bodies[n % IMAGES], load)
            if content is not None:
                difference = np.abs(kind.probabilities(json.loads(content)) - expected_NC[n % IMAGES]).max()
                load.wrong += bool(difference > TOLERANCE)
            n += clients
        client.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    end[0] = time.perf_counter() + seconds
    start.wait()
    began = time.perf_counter()
    time.sleep(seconds / 2)
    halfway()
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
        "retried": sum(load.retried for load in loads),
        "lost": sum(load.lost for load in loads),
    }


@contextlib.contextmanager
def process(
    command: list[str], log: Path, port: int, store: str, *, in_order: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """A server that answers on `port`, in a process group of its own, which ends with the block.

    One that is to end `in_order` has processes in other groups, and does so at the end of its input.
    """
    with log.open("w") as output:
        environment = os.environ | {"MLFLOW_TRACKING_URI": store}
        server = subprocess.Popen(
            command,
            cwd=log.parent,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            text=True,
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
        yield server
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired, BrokenPipeError):
            server.communicate(timeout=ENDING if in_order else 0)  # the end of its input
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
    """Measures, or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("tables", help="the record -> docs/serving.md")
    measured = commands.add_parser("measure")
    measured.add_argument("--model", type=Path, required=True, help="folder of a model")
    measured.add_argument("--seconds", type=float, default=8, help="of a turn (%(default)s)")
    measured.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    measured.add_argument("--record", action="store_true", help="write benchmarks/records/serving.json")
    options = parser.parse_args()
    if options.command == "tables":
        before, rest = PAGE.read_text().split(MARKS[0])
        PAGE.write_text(before + MARKS[0] + table(read_record(RECORD)) + MARKS[1] + rest.split(MARKS[1])[1])
        return
    rows = [row(*key, found) for key, found in turns(options.model.absolute(), options.rounds, options.seconds).items()]
    record = {**measured_here(), "rounds": options.rounds, "seconds": options.seconds, "rows": rows}
    print(table(record))
    if options.record:
        write_record(RECORD, record)


def turns(models: Path, rounds: int, seconds: float) -> dict[tuple[str, int], list[dict[str, float]]]:
    """(server, clients) -> what was measured in each round."""
    predictor = Predictor.load(models)
    rng, side = np.random.default_rng(0), predictor.model.image.size
    images = [encode_png(rng.integers(0, 256, (side, side), np.uint8)) for _ in range(IMAGES)]
    expected_NC = np.concatenate([predictor.predict([image]).probabilities for image in images])
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as servers:
        root = Path(folder)
        store, address = logged(root, models)
        ours, rays, theirs = free_port(), free_port(), free_port()
        run = [sys.executable, "-m"]
        serve = [*run, "nla.commands.main", "serve", "--cropped", "--model", str(models), "--port", str(ours)]
        servers.enter_context(process(serve, root / "nla.log", ours, store))
        ray = [sys.executable, str(Path(__file__).with_name("ray_serve.py")), str(models), str(rays)]
        replicas = servers.enter_context(process(ray, root / "ray.log", rays, store, in_order=True))
        mlflow = [*run, "mlflow", "models", "serve", "-m", address, "--env-manager", "local", "--port", str(theirs)]
        servers.enter_context(process(mlflow, root / "mlflow.log", theirs, store))
        kinds = {
            "nla serve": nla_kind(ours, predictor.classes),
            RAY: nla_kind(rays, predictor.classes),
            "mlflow models serve": mlflow_kind(theirs),
        }
        for each in range(rounds):
            for clients in CLIENTS:
                for name in list(kinds)[:: -1 if each % 2 else 1]:
                    turn = measure(kinds[name], images, expected_NC, clients, seconds)
                    found.setdefault((name, clients), []).append(turn)

        def kill() -> None:
            assert replicas.stdin is not None
            replicas.stdin.write("kill\n")
            replicas.stdin.flush()

        killed = measure(kinds[RAY], images, expected_NC, KILL_CLIENTS, 2 * seconds, kill)
        found[f"{RAY}, a node killed", KILL_CLIENTS] = [killed]
    return found


def table(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    lines = [
        "| server | clients | requests/s | p50 ms | p99 ms | requests | wrong | sent again | lost |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in record["rows"]:
        rate, (low, high) = each["requests_per_second"], each["range"]
        span = f" ({low:.0f} to {high:.0f})" if low != high else ""
        lines.append(
            f"| {each['server']} | {each['clients']} | {rate:.0f}{span} | {each['p50_ms']:.1f} | {each['p99_ms']:.1f} "
            f"| {each['requests']} | {each['wrong']} | {each['retried']} | {each['lost']} |"
        )
    lines += ["", f"Medians of n = {record['rounds']} turns of {record['seconds']:g} s; commit {record['commit']}; "
              f"{conditions(record)}"]  # fmt: skip
    return "\n".join(lines) + "\n"


def row(server: str, clients: int, turns: list[dict[str, float]]) -> dict[str, Any]:
    """Medians over the rounds, with the range of requests per second; sums of answers."""
    medians = {
        name: statistics.median(turn[name] for turn in turns) for name in ("requests_per_second", "p50_ms", "p99_ms")
    }
    rates = [turn["requests_per_second"] for turn in turns]
    sums = {name: int(sum(turn[name] for turn in turns)) for name in ("requests", "wrong", "retried", "lost")}
    return {"server": server, "clients": clients, **medians, "range": [min(rates), max(rates)], **sums}


if __name__ == "__main__":
    main()
