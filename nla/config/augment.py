"""`augment`: augmentation of the training images."""

from __future__ import annotations

from typing import ClassVar, Literal

from nla.config.base import Section


class AugmentConfig(Section):
    """Augmentation of the training images."""

    NAME: ClassVar[str] = "augment"

    recipe: Literal["none", "flip", "affine", "strong", "released"] = "affine"
    """flip: mirrored half of the time; affine: flip, shift, scale, rotation; strong: affine, light and erasing;
    released: as in NLA's public code."""
