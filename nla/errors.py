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

import errno
from typing import TYPE_CHECKING

from nla.text import shortened

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


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


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the operating system that mean that there is no room for a file."""


LACK_OF_MEMORY = ("out of memory", "can't allocate memory")
"""Parts of the messages of PyTorch, whose errors of memory are RuntimeErrors: of a GPU, and of a CPU."""


def lacks_memory(error: BaseException) -> bool:
    """Whether a library could not get memory."""
    said = isinstance(error, RuntimeError) and any(part in str(error) for part in LACK_OF_MEMORY)
    return said or isinstance(error, MemoryError)


def is_explained(error: BaseException) -> bool:
    """Whether `user_message` says all that the user needs; others are bugs, with a traceback."""
    return isinstance(error, NLAError | OSError) or lacks_memory(error)


def user_message(error: BaseException) -> str:
    """The message shown to the user for an error that `is_explained`, with the file name for errors of the system."""
    if lacks_memory(error):
        details = shortened(str(error).partition("\n")[0], 160) or "no details"
        return (
            f"not enough memory ({details}). Lower train.batch_size, data.image_size, model.width or "
            "ray.images_in_memory, or use a larger machine."
        )
    if not isinstance(error, OSError):
        return str(error)
    reason = error.strerror or str(error)
    if error.errno in FULL:
        reason += ". Free some space there, and run it again: what was complete is kept"
    if error.errno == errno.EROFS:
        reason += ". Make it writable, and run it again"
    return reason if error.filename is None else f"{error.filename}: {reason}"


def validation_message(problem: ErrorDetails) -> str:
    """One problem that pydantic found, as `problem (got VALUE)`; the caller puts the key in front."""
    message = problem["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)
    message = message[:1].lower() + message[1:]
    missing_field = problem["type"] == "missing" and isinstance(problem["input"], dict)  # got: all other fields
    return message if missing_field else f"{message} (got {shortened(repr(problem['input']))})"
