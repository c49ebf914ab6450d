"""`tune`: how the NAW hyperparameters are searched."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from nla.config.base import Section


class TuneConfig(Section):
    """How the NAW hyperparameters are searched."""

    NAME: ClassVar[str] = "tune"

    num_samples: Annotated[int, Field(ge=0)] = 0
    """Trials; 0 passes the parameters through."""
