"""The process that serves: its socket, its signals, and its end."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from nla.errors import CommandError
from nla.signals import ENDING

GRACE_SECONDS = 30
"""How long requests that are under way may take after a signal."""
BACKLOG = 2048
"""Connections that wait to be accepted, as uvicorn's own default."""


class Server(uvicorn.Server):
    """uvicorn, which ends in order at the first signal, and returns. uvicorn's own raises the signal again."""

    def __init__(self, app: FastAPI, started: Callable[[], object]) -> None:
        """
        Args:
            app: the application.
            started: called when it accepts requests.
        """
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="on",
                access_log=False,  # no record of who asks
                server_header=False,
                proxy_headers=False,
                log_level="warning",
                log_config=None,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._on_start = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; `started` is called after it."""
        await super().startup(sockets)
        self._on_start()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Each signal ends the server in order; a second one ends it at once. One that is ignored stays so."""
        before = {number: signal.getsignal(number) for number in ENDING}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that is bound to one address.

    Raises:
        CommandError: the address is not of this machine, or the port is taken or not permitted.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With the protocol: without, asyncio leaves Nagle's algorithm on, which holds answers back for 40 ms.
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CommandError(f"--host {host}: {error.strerror}. Name an address of this machine.") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        remedy = "Choose another --port, or end what uses it"
        raise CommandError(f"cannot listen on {host}, port {port}: {error.strerror}. {remedy}.") from None
    bound.set_inheritable(False)
    return bound


def serve(app: FastAPI, listening: socket.socket, started: Callable[[], object]) -> None:
    """Answers until a signal comes; requests that are under way then are answered, too."""
    Server(app, started).run([listening])
