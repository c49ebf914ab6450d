"""A real PostgreSQL on loopback, of the machine's own binaries, with a password and in a folder that is deleted."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from mlflow_parts import free_port
from patience import PATIENCE

DEBIAN = Path("/usr/lib/postgresql")
"""Debian keeps the server's binaries out of PATH, in VERSION/bin."""
USER = "postgres"
FOR_SPEED = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True)
class Postgres:
    """A running server, and the password of its only user, mlflow."""

    port: int
    password: str

    def uri(self, database: str) -> str:
        """Address of a database."""
        return f"postgresql://mlflow:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Address of a new, empty database."""
        with psycopg.connect(self.uri("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        return self.uri(database)


@contextlib.contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A server that only this test uses; the test is skipped where no PostgreSQL is installed."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("needs PostgreSQL: install Debian's package postgresql, or put initdb and postgres in PATH")
    server = Postgres(free_port(), secrets.token_hex(8))
    with _folder() as folder:
        (folder / "password").write_text(server.password)
        create = ["-D", folder / "data", "-U", "mlflow", f"--pwfile={folder / 'password'}", "--no-sync", "--no-locale"]
        subprocess.run(
            [binaries / "initdb", *create, "--auth=scram-sha-256", "--encoding=UTF8"],
            check=True,
            capture_output=True,
            cwd=folder,
            **_identity(),
        )
        options = ["listen_addresses=127.0.0.1", "unix_socket_directories=", *FOR_SPEED]
        command = [binaries / "postgres", "-D", folder / "data", "-p", str(server.port)]
        command += [word for option in options for word in ("-c", option)]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **_identity())
        try:
            _wait_for(server, process, folder / "log")
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # ends connections and the server at once
            process.wait(PATIENCE)


def _binaries() -> Path | None:
    """The folder of initdb and postgres; None where they or, for root, the user that runs them are missing."""
    if os.geteuid() == 0 and USER not in {user.pw_name for user in pwd.getpwall()}:
        return None
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


def _identity() -> dict[str, Any]:
    """PostgreSQL refuses to run as root; the user of Debian's package has no other rights."""
    return {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder of the server's user; those of pytest are closed to others than the user of the tests."""
    with tempfile.TemporaryDirectory(prefix="nla-postgres-") as name:
        if os.geteuid() == 0:
            owner = pwd.getpwnam(USER)
            os.chown(name, owner.pw_uid, owner.pw_gid)
        yield Path(name)


def _wait_for(server: Postgres, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(server.uri("postgres")):
            return
        time.sleep(0.1)
    raise RuntimeError(f"no PostgreSQL: {log.read_text()}")
