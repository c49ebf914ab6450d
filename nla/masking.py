"""Passwords, tokens and keys are masked in whatever this project shows, logs, or records."""

from __future__ import annotations

import logging
import os
import re
import sys
from typing import Any, TextIO
from urllib.parse import quote, unquote

MASK = "***"
SECRET_VARIABLE = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|ACCESS_KEY|ACCESS_KEY_ID|API_KEY|CONNECTION_STRING)$")
"""Names of environment variables whose values are secrets, such as MLFLOW_TRACKING_PASSWORD."""
SHORTEST = 6
"""A shorter value of such a variable is not masked by itself: it may be part of any word."""
IN_URI = re.compile(r"^[\w+.-]+://[^:/@]*:(?P<database>[^@]*)@|^[\w+.-]+://[^:/@]*:(?P<greedy>[^/]*)@")
"""The password of a whole URI. In that of a database, it may hold / and ?, in others @."""
USER_INFO = re.compile(r"(?<=://)[^\s/'\"<>]*@")
QUERY = re.compile(
    r"(?i)(?<=[?&])((?:x-amz-|ssl)?(?:password|passwd|token|secret|signature|sig|credential|\w*_key)=)[^&\s'\"]+"
)
TOKENS = re.compile(r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{15,})\b")
"""Key ids of AWS, and tokens of GitHub and GitLab, which are known by their shape."""
AUTHORIZATION = re.compile(r"(?i)\b((?:basic|bearer) )[\w+/=.-]{8,}")


def masked(text: str) -> str:
    """`text` without users and passwords in addresses, keys, tokens, and the secrets of the environment."""
    for secret in _secrets():
        text = text.replace(secret, MASK)
    text = USER_INFO.sub("", text)
    text = QUERY.sub(rf"\1{MASK}", text)
    text = AUTHORIZATION.sub(rf"\1{MASK}", text)
    return TOKENS.sub(MASK, text)


def holds_secret(text: str) -> bool:
    """Whether `text` is an address with a password, or has a key or token in it."""
    return bool(IN_URI.match(text) or QUERY.search(text) or TOKENS.search(text))


def mask_streams() -> None:
    """Masks all that this process writes to its standard output and error from now on, tracebacks included."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, _MaskedStream):
            setattr(sys, name, _MaskedStream(stream))


class MaskedFormatter(logging.Formatter):
    """Masks what another formatter returns: message, arguments and traceback."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return masked(self._inner.format(record))


class _MaskedStream:
    """A text stream that masks what is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(masked(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _secrets() -> list[str]:
    """The secrets of the environment, longest first: values of variables, and passwords in addresses."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if SECRET_VARIABLE.search(name):
            found.add(value)
        elif "://" in value and (match := IN_URI.match(value)):
            found |= {password for password in match.groups() if password}
    found |= {form for secret in found for form in (unquote(secret), quote(secret, safe=""))}
    return sorted((secret for secret in found if len(secret) >= SHORTEST), key=len, reverse=True)
