"""`augment`: what is done to a training image before it is seen."""

from __future__ import annotations

from typing import ClassVar, Literal

from nla.config.base import Section


class AugmentConfig(Section):
    """What is done to a training image before it is seen."""

    NAME: ClassVar[str] = "augment"

    recipe: Literal["none", "flip", "affine", "strong", "released"] = "affine"
    """flip: mirrored half of the time; affine: flip, shift, scale, turn; strong: light and erasing too; released: as in
    NLA's public code."""
