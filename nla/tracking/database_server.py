"""A database server as MLflow's store: its driver and its address are checked before MLflow tries them for minutes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

PACKAGES = {
    "psycopg": "-e .[postgres]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "boto3": "-e .[s3]",
    "google": "google-cloud-storage",
    "azure": "azure-storage-blob azure-identity",
}
"""What `pip install` needs for a module that MLflow imports for some stores only; others are named as their package."""
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
TIMEOUT_SECONDS = 15.0
SSL_REQUEST = bytes((0, 0, 0, 8)) + (80877103).to_bytes(4, "big")
"""First message of a client that PostgreSQL answers with one byte (documentation of its protocol, SSLRequest)."""
LOCK = int.from_bytes(b"nla", "big")
"""Number of this project's advisory lock in PostgreSQL, which has one lock of each number per database."""


def check_server(uri: str) -> None:
    """Imports the driver of a database, and connects to its server once; other stores are left to MLflow.

    Raises:
        ModuleNotFoundError: the driver is not installed.
        OSError: nothing listens at the address, or what listens there does not answer.
    """
    try:
        url = make_url(uri)
        backend = url.get_backend_name()
        usual_port = PORTS[backend]
    except (ArgumentError, KeyError):  # a folder, a server of MLflow, or a file
        return
    url.get_dialect().import_dbapi()
    if url.host and not url.host.startswith("/"):  # that is a local socket
        with socket.create_connection((url.host, url.port or usual_port), TIMEOUT_SECONDS) as server:
            _wait_for_answer(server, backend)


def _wait_for_answer(server: socket.socket, backend: str) -> None:
    """Waits for the first byte of a PostgreSQL, which is asked for it, or of a MySQL, which begins by itself."""
    if backend == "postgresql":
        server.sendall(SSL_REQUEST)
    if backend in ("postgresql", "mysql"):
        try:
            server.recv(1)
        except TimeoutError:
            raise TimeoutError(f"accepts connections, but has not answered for {server.gettimeout():.0f} s") from None


@contextlib.contextmanager
def server_lock(uri: str, seconds: float) -> Iterator[None]:
    """Waits for the lock of a PostgreSQL database, which all machines share; other stores are not locked.

    The server frees it when the connection ends, also that of a process that was killed.

    Raises:
        OperationalError: another process has held it for so long.
    """
    if not uri.startswith("postgresql"):
        yield
        return
    engine = create_engine(uri, poolclass=NullPool, isolation_level="AUTOCOMMIT")  # no transaction stays open
    with engine.connect() as connection:
        connection.execute(text(f"SET statement_timeout = {round(1000 * seconds)}"))
        connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": LOCK})
        yield


def missing_package(error: ModuleNotFoundError) -> str:
    """A message that says how to install what the store needs."""
    module = (error.name or str(error)).partition(".")[0]
    return f"needs the Python package {module}. Run `pip install {PACKAGES.get(module, module)}`."
