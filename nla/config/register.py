"""`register`: registration of models, and the comparison with the champion."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from nla.config.base import Section
from nla.limits import MOST_RESAMPLES


class RegisterConfig(Section):
    """Registration of models, and the comparison with the champion."""

    NAME: ClassVar[str] = "register"

    prefix: str = "nla"
    """Models are registered as PREFIX-SOURCE."""
    bootstrap: Annotated[int, Field(ge=100, le=MOST_RESAMPLES)] = 2000
    """Bootstrap resamples of the paired comparison with the champion."""
    seed: Annotated[int, Field(ge=0)] = 0
