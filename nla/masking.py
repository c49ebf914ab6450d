"""Passwords, tokens and keys are masked in whatever this project shows, logs, or records."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from typing import Any, TextIO
from urllib.parse import quote, unquote

MASK = "***"
SECRET_VARIABLE = re.compile(
    r"(?i)(?:^|_)(?:\w*(?:PASSWORD|PASSWD|PASSPHRASE)|SECRETS?|TOKENS?|APIKEY|CREDENTIALS?|CONNECTION_STRING)(?:_|$)"
    r"|_(?:PASS|PWD|PAT|AUTH|KEY|KEY_ID)$"
)
"""Names of environment variables whose values are secrets, such as MLFLOW_TRACKING_PASSWORD and AWS_ACCESS_KEY_ID."""
FOLDERS = ("PWD", "OLDPWD")
"""Variables of the shell: not passwords."""
LONE_USER = re.compile(r"^https?://([^\s/:@]+)@")
"""A user without a password, as a token is given to git."""
SHORTEST = 6
"""A shorter value of such a variable is not masked by itself: it may be part of any word."""
IN_URI = re.compile(r"^[\w+.-]+://[^:/@]*:(?P<database>[^@]*)@|^[\w+.-]+://[^:/@]*:(?P<greedy>[^/]*)@")
"""The password of a whole URI. In that of a database, it may hold / and ?, in others @."""
LOGIN = re.compile(r"://[^\s/:@'\"<>]*:[^\s/@'\"<>]+@")
"""User and password of an address anywhere in a text."""
USER_INFO = re.compile(r"(?<=://)[^\s/'\"<>]*@")
NAMED = (
    r"[\w.-]*(?:password|passwd|passphrase|pwd|token|secret|signature|credentials?|[_-]key|(?:api|account|access)key)"
)
"""Names of secrets in addresses and settings, such as access_token, X-Amz-Signature and AccountKey."""
QUERY = re.compile(rf"(?i)(?<=[?&;#])((?:{NAMED}|pass|sig|key)=)([^&;\s'\"]+)")
"""A secret in the query or fragment of an address."""
SETTING = re.compile(rf"(?i)(?<![\w.-])({NAMED}(?:=|['\"]: ?)['\"]?)([^\s'\",;&]+)")
"""A secret in a connection string, a dictionary or JSON: password=..., 'token': '...'."""
TOKENS = re.compile(
    r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{15,}|hf_[A-Za-z0-9]{30,})\b"
)
"""Key ids of AWS, and tokens of GitHub, GitLab and Hugging Face, which are known by their shape."""
AUTHORIZATION = re.compile(r"(?i)\b((?:basic|bearer) )[\w+/=.-]{8,}")


def masked(text: str) -> str:
    """`text` without users and passwords in addresses, keys, tokens, and the secrets of the environment."""
    for secret in _secrets():
        text = text.replace(secret, MASK)
    text = USER_INFO.sub("", text)
    for pattern in (QUERY, AUTHORIZATION, SETTING):
        text = pattern.sub(rf"\1{MASK}", text)
    return TOKENS.sub(MASK, text)


def holds_secret(text: str) -> bool:
    """Whether `text` is an address with a password, or has a key or token in it."""
    return bool(IN_URI.match(text) or any(each.search(text) for each in (LOGIN, QUERY, SETTING, AUTHORIZATION, TOKENS)))


def mask_streams() -> None:
    """Masks all that this process writes to its standard output and error from now on, tracebacks included.

    Characters that the output's encoding lacks, as in names on a terminal with ASCII, become escapes, not errors.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, _MaskedStream):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
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
    """The secrets of the environment, longest first: values of variables, and those in addresses and settings."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if name not in FOLDERS and SECRET_VARIABLE.search(name):
            found.add(value)
        if "://" in value and (match := IN_URI.match(value)):
            found |= {password for password in match.groups() if password}
        if "://" in value or "=" in value:
            found |= {match[2] for pattern in (QUERY, SETTING) for match in pattern.finditer(value)}
        if match := LONE_USER.match(value):
            found.add(match[1])
    found |= {form for secret in found for form in (unquote(secret), quote(secret, safe=""))}
    return sorted((secret for secret in found if len(secret) >= SHORTEST), key=len, reverse=True)
