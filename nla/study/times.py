"""time.json: how long an epoch of each method takes, measured once by pipelines/study_time.py and committed.

From it, `minutes` of grid.yaml become epochs, so that methods are compared at equal time while no training depends on
how busy a machine is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from nla.errors import ConfigError
from nla.io import read_json_as

TIME = Path("time.json")
"""Path in the folder of a study."""
REMEDY = "Run `python ../../pipelines/study_time.py` on an idle machine, and commit time.json."
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class MethodTime(BaseModel):
    """Time of one method in a block."""

    model_config = ConfigDict(strict=True, extra="forbid")

    step: Seconds
    """Median of its training steps."""
    quartiles: tuple[Seconds, Seconds]
    """Of its steps."""
    end: Seconds
    """Median of what follows the steps of an epoch: BatchNorm, the method's own work, validation."""
    steps: Annotated[int, Field(ge=1)]
    """Of an epoch."""
    measured: Annotated[int, Field(ge=1)]
    """Number of steps that were measured."""
    setting: dict[str, Any]
    """Parameters on which the time depends."""

    @property
    def epoch(self) -> float:
        """Seconds of an epoch."""
        return self.steps * self.step + self.end


class BlockTime(BaseModel):
    """Times of the methods of a block."""

    model_config = ConfigDict(strict=True, extra="forbid")

    rows: dict[str, int]
    """Condition -> its training rows."""
    methods: dict[str, MethodTime]


class Times(BaseModel):
    """Content of time.json."""

    model_config = ConfigDict(strict=True, extra="forbid")

    code: str
    """Fingerprint of the code that was measured."""
    commit: str | None
    machine: dict[str, Any]
    versions: dict[str, str]
    device: str
    precision: str
    threads: int
    blocks: dict[str, BlockTime]

    def epochs(self, minutes: float, block: str, method: str, setting: Mapping[str, Any]) -> int:
        """Whole epochs that the method trains in this time.

        Raises:
            ConfigError: it was not measured, or with other parameters, or not even one epoch fits.
        """
        own = self.blocks[block].methods.get(method) if block in self.blocks else None
        if own is None:
            raise ConfigError(f"{TIME}: no time of {method}{f' in block {block}' if block else ''}. {REMEDY}")
        if own.setting != setting:
            raise ConfigError(
                f"{TIME}: {method} was measured with other parameters (got {own.setting}, not {setting}). {REMEDY}"
            )
        if 60 * minutes < own.epoch:
            raise ConfigError(f"minutes: an epoch of {method} takes {own.epoch / 60:.2f} (got {minutes:g}). Raise it.")
        return math.floor(60 * minutes / own.epoch)


def read_times(path: Path = TIME) -> Times | None:
    """Reads time.json; None if there is none. Raises DataError if it is damaged."""
    return read_json_as(path, Times, REMEDY) if path.is_file() else None
