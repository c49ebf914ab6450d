"""Who may ask: the names by which the server may be called, the pages that may send, and a token.

A page of another site can make its visitor's browser send requests to a server on the same machine (cross-site request
forgery), and can let its own name point to 127.0.0.1 to read the answers (DNS rebinding). The headers Origin and Host,
which a page cannot choose, tell.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nla.text import shortened, shown
from nla.web.refusals import Refused, problem

log = logging.getLogger(__name__)

LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPEN = ("/", "/health")
"""Paths that need no token: the page, which asks for it, and what a supervisor of processes asks."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer that does not set them itself."""


class Guard:
    """ASGI middleware that refuses requests by their headers."""

    def __init__(self, app: ASGIApp, hosts: Collection[str], token: str | None) -> None:
        """
        Args:
            app: what is guarded.
            hosts: names and addresses by which this server may be called, without port.
            token: what `Authorization: Bearer` must carry; None if nothing.
        """
        self._app, self._hosts = app, frozenset(map(str.lower, hosts))
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there is none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        has_started = False

        async def send_guarded(message: Message) -> None:
            nonlocal has_started
            has_started = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        try:
            self._check_host(headers)
            self._check_origin(scope["method"], headers)
            scope.setdefault("state", {})["authorized"] = self._is_authorized(headers)
            self._check_token(scope)
        except Refused as refused:
            await refused.response()(scope, receive, send_guarded)
            return
        try:
            await self._app(scope, receive, send_guarded)
        except Exception:  # a bug: the client gets an answer as any other, and the log the traceback
            if has_started:
                raise
            log.exception("%s %s failed", scope["method"], shown(scope["path"]))
            await problem(500, "internal error. See the server's log.")(scope, receive, send_guarded)

    def _check_host(self, headers: Headers) -> None:
        name = host_name(headers.get("host", ""))
        if name not in self._hosts:
            raise Refused(
                421, f"Host: not a name of this server (got {shortened(name)!r}). Start it with --allow-host NAME."
            )

    def _check_origin(self, method: str, headers: Headers) -> None:
        """A browser names the page's site in every POST; other programs send no Origin."""
        origin = headers.get("origin")
        if method in ("GET", "HEAD") or origin is None:
            return
        if urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            raise Refused(403, f"Origin: pages of another site may not send (got {shortened(origin)!r}).")

    def _is_authorized(self, headers: Headers) -> bool:
        if self._token is None:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        # in constant time: otherwise the time would tell how many characters are right
        return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)

    def _check_token(self, scope: Scope) -> None:
        if not scope["state"]["authorized"] and scope["path"] not in OPEN:
            raise Refused(
                401, "a token is needed. Send `Authorization: Bearer` with the server's NLA_TOKEN.",
                {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip


def host_name(host: str) -> str:
    """The name in a header Host, in lower case, without port and brackets; empty if it is not one."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is bound to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
