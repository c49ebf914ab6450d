"""runs.json: the runs that the report of a study covers, with the names of their records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nla.study.record import Objective

MANIFEST = Path("runs.json")
"""Path in the folder of a study."""


class _Run(BaseModel):
    method: str
    condition: str
    seed: int


class Entry(_Run):
    """A run of the comparison, in runs.json."""

    record: str
    """Fingerprint of the record."""


class TuningEntry(_Run):
    """A run of the tuning, in runs.json."""

    record: str | None
    """Fingerprint of the record; None if training diverged."""
    setting: int
    """Number of the values; 0 is the setting of the grid."""
    values: dict[str, Any]


class TuningEntries(BaseModel):
    """The tuning, in runs.json."""

    conditions: list[str]
    seed: int
    objective: Objective
    trainings: list[TuningEntry]


class Manifest(BaseModel):
    """Content of runs.json: what the report covers."""

    reference: str
    """Method that all others are compared with."""
    caveats: list[str] = []
    """What a reader must know before comparing the methods."""
    runs: list[Entry]
    tuning: TuningEntries | None = None
    """None if the study has no tuning."""
