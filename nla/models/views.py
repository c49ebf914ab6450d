"""Views of an image: the copies over which a prediction is averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field


@dataclass(frozen=True)
class Views:
    """Views of an image over which probabilities are averaged; a model's card holds those of its predictions."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    mirror: bool = True
    """Adds the mirror image of each view."""
    shift: Annotated[int, Field(ge=0, le=512)] = 0
    """If above 0, adds four views, shifted by this many pixels up, down, left and right."""

    @property
    def count(self) -> int:
        """Number of views per image."""
        return (2 if self.mirror else 1) * (5 if self.shift else 1)


ONE_VIEW = Views(mirror=False)
