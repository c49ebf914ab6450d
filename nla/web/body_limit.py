"""The limit of a request's body, which holds while it arrives; nothing is read of one that states a larger size."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nla.web.limits import ServerLimits
from nla.web.refusals import Refused

DRAIN_SECONDS = 5.0
"""How long the rest of a refused body is read and discarded: clients that are still sending see no answer."""
RETRY = {"Retry-After": "1"}


class BodyLimit:
    """ASGI middleware: counts the bytes of bodies, and of all that are read at the same time."""

    def __init__(self, app: ASGIApp, limits: ServerLimits) -> None:
        self._app, self._limits = app, limits
        self._held = self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(self, scope, receive, send)
        self._requests += 1
        try:
            self._check_start(scope)
            await self._app(scope, body.receive, body.send)
        except Refused as refused:  # before the application has begun
            await refused.response()(scope, body.receive, body.send)
        finally:
            self._requests -= 1
            self._held -= body.size

    def _check_start(self, scope: Scope) -> None:
        if self._requests > self._limits.max_requests:
            raise Refused(503, f"{self._limits.max_requests} requests are under way. Send this one again later.", RETRY)
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        self.check(int(stated) if stated.isdigit() else 0)

    def check(self, size: int) -> None:
        """Raises Refused if a body of this size is too large."""
        if size > self._limits.max_body_bytes:
            raise Refused(413, f"the body has more than {self._limits.max_body_bytes:,} bytes. Send less at a time.")

    def hold(self, size: int) -> None:
        """Counts bytes that are kept. Raises Refused if all bodies together are too large."""
        self._held += size
        if self._held > self._limits.max_held_bytes:
            raise Refused(503, "too many large requests are under way. Send this one again later.", RETRY)

    async def next(self, receive: Receive) -> Message:
        """The next message of a client. Raises Refused if it pauses for too long."""
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                return await receive()
        except TimeoutError:
            raise Refused(
                408, f"no more of the body came for {self._limits.body_seconds:g} s. Send it again."
            ) from None


class _Body:
    """The body of one request, as it arrives."""

    def __init__(self, limit: BodyLimit, scope: Scope, receive: Receive, send: Send) -> None:
        self._limit, self._receive, self._send = limit, receive, send
        headers = dict(scope["headers"])
        self._is_complete = not (b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0")
        self._waits = b"expect" in headers  # for permission to send the body, see RFC 9110, section 10.1.1
        self.size = 0

    async def receive(self) -> Message:
        """The next part. Raises Refused if the body becomes too large, or the client pauses for too long."""
        if self._is_complete:  # what follows is only that the client goes away, for which nobody sets a time
            return await self._receive()
        message = await self._limit.next(self._receive)
        self._waits = False
        self._is_complete = not message.get("more_body", False)
        size = len(message.get("body", b""))
        self.size += size
        self._limit.hold(size)
        self._limit.check(self.size)
        return message

    async def send(self, message: Message) -> None:
        """Passes on an answer; before an error, the rest of the body is discarded."""
        if message["type"] == "http.response.start" and message["status"] >= 400 and not self._is_complete:
            await self._drain()
        await self._send(message)

    async def _drain(self) -> None:
        if self._waits:
            return
        left = self._limit._limits.max_body_bytes
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._is_complete and left >= 0:
                    message = await self._receive()
                    self._is_complete = not message.get("more_body", False)
                    left -= len(message.get("body", b""))
        except TimeoutError:
            return
