"""Requests that are refused: a status of HTTP and a reason in one line, as JSON."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse

from nla.text import shown


class Refused(Exception):
    """A request that the client has to change, or to send again later."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        """
        Args:
            status: of HTTP, from 400 on.
            reason: what is wrong and what to do, in one line.
            headers: of the answer, such as Retry-After.
        """
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})

    def response(self) -> JSONResponse:
        """The answer: `{"error": reason}`."""
        return problem(self.status, self.reason, self.headers)


def problem(status: int, reason: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An answer with an error, whose reason becomes one line without control characters."""
    return JSONResponse({"error": shown(" ".join(reason.split()))}, status, dict(headers or {}))
