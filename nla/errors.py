"""Exceptions of NLA. Every message names the next action.

NLAError
├── ConfigError       params.yaml holds an unknown key or an ill-typed value
├── DataError         a raw file, or a Parquet table, is not what it should be
├── WeightsError      a checkpoint or model file does not fit
├── TrainingError     training could not start or go on
│   ├── Diverged      the loss is no longer finite
│   └── ClusterError  Ray has no room, or lost what it ran: another attempt may succeed
├── RegistryError     MLflow's store or registry refuses
└── CommandError      a command of `nla` is unknown, or lacks what it needs
"""

from __future__ import annotations


class NLAError(Exception):
    """Base of all errors that the user can fix; shown without a traceback."""


class ConfigError(NLAError):
    """params.yaml holds an unknown key or an ill-typed value."""


class DataError(NLAError):
    """A raw file, or a Parquet table, is not what it should be."""


class WeightsError(NLAError):
    """A checkpoint or model file does not fit the configured network."""


class TrainingError(NLAError):
    """Training could not start or go on."""


class Diverged(TrainingError):
    """The loss is no longer finite; raised with the epoch and step."""


class ClusterError(TrainingError):
    """Ray has no room, or lost what it ran: another attempt may succeed."""


class RegistryError(NLAError):
    """MLflow's store or registry refuses."""


class CommandError(NLAError):
    """A command of `nla` is unknown, or lacks what it needs."""


def told(error: NLAError | OSError) -> str:
    """The message shown to the user, with the file name for errors of the operating system."""
    if not isinstance(error, OSError):
        return str(error)
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{error.filename}: {reason}"
