"""A model server under requests that would exhaust its memory: small files that decode to huge images.

    python benchmarks/hostile_requests.py

It trains a small network, registers it in a store of its own, and starts `mlflow models serve` as docs/pipeline.md
does, on the loopback interface. The hostile image is a PNG of 0.9 MB that would decode to 900 megapixels. Measured are
the time of a refusal, the growth of the server's memory (resident, the largest sum over its processes), and good
requests beside a stream of hostile ones.
"""

from __future__ import annotations

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
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from records import measured_here, write_record

from nla import fit
from nla.data.images import PNG, encode_png
from nla.data.sources.synthetic import CLASSES, make_faces
from nla.serving.logged import log_served_model
from nla.tracking import MlflowTracker, configure

SIDE = 30_000  # pixels of the hostile image
REFUSALS = 20
GOOD, CLIENTS, ATTACKERS = 320, 4, 2
PATIENCE = 120  # seconds until the server must answer
REFUSAL = "more than max_pixels"


@dataclass(frozen=True)
class Answer:
    """A server's answer."""

    status: int
    text: str
    seconds: float

    @property
    def is_refusal(self) -> bool:
        """Whether the image was refused, for its size."""
        return self.status == 400 and REFUSAL in self.text

    @property
    def is_good(self) -> bool:
        """Whether the image was classified."""
        return self.status == 200 and json.loads(self.text)["predictions"][0]["label"] in CLASSES


class Memory(threading.Thread):
    """Largest resident memory of a process and its children together, in bytes; measured all the time."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(process)
        self.peak = self.now()

    def now(self) -> int:
        """The sum at this moment."""
        total = 0
        for process in (self._root, *self._root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def run(self) -> None:
        """Measures until the server ends; decoding the image would take seconds."""
        with contextlib.suppress(psutil.NoSuchProcess):
            while True:
                self.peak = max(self.peak, self.now())
                time.sleep(0.01)


def main() -> None:
    """Measures, and writes the record."""
    image = huge_png(SIDE)
    hostile, good = request(image), request(encode_png(make_faces(1, seed=1)[0][0]))
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as (port, process):
        for _ in range(CLIENTS):
            check(ask(port, good).is_good)
        memory = Memory(process)
        before = memory.peak
        memory.start()
        refusals = [ask(port, hostile) for _ in range(REFUSALS)]
        check(all(answer.is_refusal for answer in refusals))
        alone = memory.peak - before
        answers, attacks = beside(port, good, hostile)
        under_attack = memory.peak - before
    record = {
        "command": "python benchmarks/hostile_requests.py",
        "image": {"bytes": len(image), "pixels": SIDE**2},
        "refusal_seconds": [answer.seconds for answer in refusals],
        "growth_mb": alone / 1e6,
        "growth_under_attack_mb": under_attack / 1e6,
        "good": {"requests": len(answers), "answered": sum(answer.is_good for answer in answers)},
        "good_seconds": statistics.median(answer.seconds for answer in answers),
        "hostile": {"requests": len(attacks), "refused": sum(answer.is_refusal for answer in attacks)},
    }
    print(summary(record))
    write_record("hostile-requests", record | measured_here())


def summary(record: Mapping[str, Any]) -> str:
    """The results in a sentence."""
    seconds, good, hostile = record["refusal_seconds"], record["good"], record["hostile"]
    return (
        f"refused in {statistics.median(seconds):.3f} s (median of {len(seconds)}; at most {max(seconds):.3f} s), "
        f"memory grew by {record['growth_mb']:.0f} MB; beside {hostile['requests']} hostile requests, "
        f"{good['answered']} of {good['requests']} good ones were answered, and memory grew by "
        f"{record['growth_under_attack_mb']:.0f} MB"
    )


def check(is_as_expected: bool) -> None:
    """Ends the measurement if the server did something else."""
    if not is_as_expected:
        sys.exit("the server gave another answer than expected")


def huge_png(side: int) -> bytes:
    """A valid PNG of one colour, grey and square, that never exists as pixels here."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    row, packer = bytes(1 + side), zlib.compressobj(9)  # a row: its filter, and a byte per pixel
    data = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    header = side.to_bytes(4, "big") * 2 + bytes((8, 0, 0, 0, 0))
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def request(image: bytes) -> bytes:
    """The body of a request with an image."""
    return json.dumps({"inputs": [base64.b64encode(image).decode()]}).encode()


def ask(port: int, body: bytes) -> Answer:
    """Sends a request, and waits for the answer."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return Answer(response.status, response.read().decode(), time.perf_counter() - started)
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, str(error), time.perf_counter() - started)
    finally:
        connection.close()


def beside(port: int, good: bytes, hostile: bytes) -> tuple[list[Answer], list[Answer]]:
    """Answers to GOOD good requests from CLIENTS, and to the hostile ones that ATTACKERS sent meanwhile."""
    done = threading.Event()

    def attack(_: int) -> list[Answer]:
        answers = []
        while not done.is_set():
            answers.append(ask(port, hostile))
        return answers

    with ThreadPoolExecutor(CLIENTS + ATTACKERS) as pool:
        attacks = [pool.submit(attack, number) for number in range(ATTACKERS)]
        try:
            answers = [waiting.result() for waiting in [pool.submit(ask, port, good) for _ in range(GOOD)]]
        finally:
            done.set()
        return answers, [answer for stream in attacks for answer in stream.result()]


@contextlib.contextmanager
def server(root: Path) -> Iterator[tuple[int, int]]:
    """Port and process of a server of a small trained model."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", trained(root), "--env-manager", "local"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}"}
    with (root / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], cwd=root, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(port, process, root / "server.log")
        yield port, process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def trained(root: Path) -> str:
    """URI of a model that a store in `root` has."""
    result = fit(make_faces(400), classes=CLASSES, epochs=1, params={"model": {"width": 8}}, progress=False)
    result.save(root / "models")
    tracker = MlflowTracker(configure(root), system_metrics=False)
    run_id = tracker.start("hostile-requests", {}, {})
    tracker.finish()
    return log_served_model(run_id, root / "models").model_uri


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits until the server answers."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
            return
        time.sleep(0.2)
    sys.exit(f"the server does not start:\n{log.read_text()}")


if __name__ == "__main__":
    main()
