"""Exceptions of NLA. Every message names the next action.

NLAError
├── ConfigError       params.yaml holds an unknown key or an ill-typed value
├── DataError         a raw file, a table or a record is not what it should be
├── WeightsError      a checkpoint or model file does not fit
├── TrainingError     training could not start or continue
│   ├── Diverged      the loss is no longer finite
│   ├── Damaged       a checkpoint is not what was written: the one before may be intact
│   └── ClusterError  Ray has no room, or lost what it ran: another attempt may succeed
├── TrackingError     MLflow's store refuses, or cannot be reached
│   └── RegistryError its model registry refuses
└── CommandError      a command of `nla` is unknown, or lacks what it needs
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except tabs and line ends, characters that reverse the direction of text, and bytes of names that
are not UTF-8. A terminal would obey them, and an output in UTF-8 would refuse the last ones."""


class NLAError(Exception):
    """Base of all errors that the user can fix; shown without a traceback."""


class ConfigError(NLAError):
    """params.yaml holds an unknown key or an ill-typed value."""


class DataError(NLAError):
    """A raw file, a Parquet table or a JSON record is not what it should be."""


class WeightsError(NLAError):
    """A checkpoint or model file does not fit the configured network."""


class TrainingError(NLAError):
    """Training could not start or continue."""


class Diverged(TrainingError):
    """The loss is no longer finite; raised with the epoch and step."""


class Damaged(TrainingError):
    """A checkpoint is incomplete, or its content is not what was written; the one before it may be intact."""


class ClusterError(TrainingError):
    """Ray has no room, or lost what it ran: another attempt may succeed."""


class TrackingError(NLAError):
    """MLflow's store refuses, or cannot be reached."""


class RegistryError(TrackingError):
    """MLflow's model registry refuses."""


class CommandError(NLAError):
    """A command of `nla` is unknown, or lacks what it needs."""


def user_message(error: NLAError | OSError) -> str:
    """The message shown to the user, with the file name for errors of the operating system."""
    if not isinstance(error, OSError):
        return str(error)
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{error.filename}: {reason}"


def validation_message(problem: ErrorDetails) -> str:
    """One problem that pydantic found, as `problem (got VALUE)`; the caller puts the key in front."""
    message = problem["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)
    message = message[:1].lower() + message[1:]
    missing_field = problem["type"] == "missing" and isinstance(problem["input"], dict)  # got: all other fields
    return message if missing_field else f"{message} (got {shortened(repr(problem['input']))})"


def shortened(text: str, limit: int = 60) -> str:
    """`text`, cut to `limit` characters, for a message."""
    return text if len(text) <= limit else f"{text[:limit]}..."


def printable(text: str) -> str:
    """`text` with escapes such as \\x1b in place of what a terminal would obey; line ends and tabs stay."""
    return UNPRINTABLE.sub(_escape, text)


def shown(name: str) -> str:
    """The name of a file or class for a line of text: `printable`, and without line ends and tabs."""
    return printable(name.replace("\n", "\\n").replace("\t", "\\t"))


def is_utf8(name: str) -> bool:
    """Whether the name of a file is text in UTF-8; Python keeps the bytes of other names as surrogates."""
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8: see os.fsdecode
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
