"""runs.json: the runs that the report of a study covers, with the names of their records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nla.study.comparisons import Claim
from nla.study.grid import Grid
from nla.study.record import Objective
from nla.study.runs import StudyRun, StudyRuns
from nla.study.specs import RunSpec

MANIFEST = Path("runs.json")
"""Path in the folder of a study."""


class _Run(BaseModel):
    method: str
    condition: str
    seed: int


class Entry(_Run):
    """A run of the comparison, in runs.json."""

    record: str
    """Name of the record."""


class TuningEntry(_Run):
    """A run of the tuning, in runs.json."""

    record: str | None
    """Name of the record; None if training diverged."""
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
    claims: list[Claim] = []
    """What is tested with a correction for the number of tests; their conditions are titles of tables."""
    runs: list[Entry]
    tuning: TuningEntries | None = None
    """None if the study has no tuning."""


def make_manifest(grid: Grid, tuning: StudyRuns, study: Sequence[StudyRun]) -> Manifest:
    """Content of runs.json: all runs, whether they have their records or not."""
    entries = [Entry(**_key(run.spec), record=run.record) for run in study]
    manifest = Manifest(reference=grid.reference, caveats=grid.caveats, claims=grid.claims_of_tables, runs=entries)
    if grid.tuning is None:
        return manifest
    tried = [
        TuningEntry(
            **_key(run.spec),
            record=None if run.record in tuning.failed else run.record,
            setting=run.spec.setting or 0,
            values=dict(run.spec.values),
        )
        for run in tuning.runs
    ]
    asked = grid.tuning.model_dump(include={"conditions", "seed", "objective"})
    return manifest.model_copy(update={"tuning": TuningEntries(**asked, trainings=tried)})


def _key(spec: RunSpec) -> dict[str, Any]:
    return {
        "method": spec.method,
        "condition": spec.table if spec.setting is None else spec.condition,
        "seed": spec.seed,
    }
