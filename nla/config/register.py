"""`register`: when a model becomes champion."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from nla.config.base import Section


class RegisterConfig(Section):
    """When a model becomes champion."""

    NAME: ClassVar[str] = "register"

    prefix: str = "nla"
    """The registered name is PREFIX-SOURCE."""
    bootstrap: Annotated[int, Field(ge=100)] = 2000
    """Resamples of the paired comparison with the champion."""
    seed: Annotated[int, Field(ge=0)] = 0
