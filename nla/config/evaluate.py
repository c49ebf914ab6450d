"""`evaluate`: evaluation of the trained model."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from nla.config.base import Section
from nla.limits import MOST_RESAMPLES


class EvaluateConfig(Section):
    """Evaluation of the trained model."""

    NAME: ClassVar[str] = "evaluate"

    mirror: bool = True
    """Average the probabilities of an image and its mirror image."""
    shift: Annotated[int, Field(ge=0, le=512)] = 0
    """Also average over copies shifted by this many pixels in each direction, 5 times as slow; 0 disables it."""
    bins: Annotated[int, Field(ge=2, le=1000)] = 15
    """Equal-width confidence bins of the calibration error (15: Guo et al. 2017)."""
    bootstrap: Annotated[int, Field(ge=100, le=MOST_RESAMPLES)] = 1000
    """Bootstrap resamples for each 95 % confidence interval."""
    seed: Annotated[int, Field(ge=0)] = 0
