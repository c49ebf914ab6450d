"""A real `nla serve` on a free port, and what clients send to it."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import requests
from mlflow_parts import clean_env
from patience import PATIENCE

from nla.data.images import encode_png

LINE = re.compile(r"serving (.+) on (http://\S+)\n")


class Client:
    """Asks a server."""

    url: str

    def post(self, data: Any = None, kind: str | None = "image/png", path: str = "/predict", **more: Any) -> Any:
        headers = {**({"Content-Type": kind} if kind else {}), **more.pop("headers", {})}
        return requests.post(self.url + path, data=data, headers=headers, timeout=PATIENCE, **more)

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.url + path, headers=headers, timeout=PATIENCE)


class Served(Client):
    """A server's process, and its address."""

    def __init__(self, process: subprocess.Popen[str], cwd: Path) -> None:
        self.process = process
        self.errors: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert process.stdout is not None
        line = process.stdout.readline()
        found = LINE.fullmatch(line)
        assert found, (line, self.log())
        self.what, self.url = found.groups()
        self.port = int(self.url.rpartition(":")[2])

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)

    def log(self) -> str:
        """What it has written on standard error; all of it if it has ended."""
        if self.process.poll() is not None:
            self._reader.join(PATIENCE)
        return "".join(self.errors)

    def raw(self, request: bytes, *, close: bool = False) -> bytes:
        """The whole answer to bytes on a connection of its own; `close` hangs up instead of waiting for it."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            connection.sendall(request)
            if close:
                return b""
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def wait_until(self, condition: Any) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end and self.process.poll() is None, self.log()
            time.sleep(0.02)


def command(model: Path | str, *options: str) -> list[str]:
    return [sys.executable, "-m", "nla.commands.main", "serve", "--model", str(model), "--port", "0", *options]


@contextlib.contextmanager
def serving(model: Path | str, *options: str, cwd: Path, **env: str) -> Iterator[Served]:
    """A server that accepts requests; it is killed at the end if it still runs."""
    process = subprocess.Popen(
        command(model, *options),
        cwd=cwd,
        env=clean_env() | env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Served(process, cwd)
        finally:
            process.kill()


def refusal(model: Path | str, *options: str, cwd: Path, **env: str) -> str:
    """The one line of a server that does not start."""
    done = subprocess.run(
        command(model, *options), cwd=cwd, env=clean_env() | env, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1 and done.stdout == "" and done.stderr.startswith("error: "), done
    (line,) = done.stderr.splitlines()
    return line


def faces(count: int, seed: int = 0) -> list[bytes]:
    """Different images as PNG, of different sizes, grey and colour."""
    rng = np.random.default_rng(seed)
    shapes = [(18 + n % 7, 16 + n % 5, *([3] if n % 2 else [])) for n in range(count)]
    return [encode_png(rng.integers(0, 256, shape, np.uint8)) for shape in shapes]
