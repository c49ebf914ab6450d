"""`audit`: the search for wrong labels, by models that have not seen them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from nla.config.base import Section
from nla.limits import MOST_EPOCHS


def _not_one(folds: int) -> int:
    if folds == 1:
        raise ValueError("must be 0, for no audit, or at least 2, as each fold is scored by a model of the others")
    return folds


class AuditConfig(Section):
    """The search for wrong labels, by models that have not seen them."""

    NAME: ClassVar[str] = "audit"

    folds: Annotated[int, Field(ge=0, le=100), AfterValidator(_not_one)] = 0
    """Models, each trained on all training rows but those of one fold, which it scores; 0: no audit."""
    epochs: Annotated[int, Field(ge=2, le=MOST_EPOCHS)] = 8
    """Epochs of each model; no label chooses one. The schedule of `train` is stretched over them."""
    test: bool = False
    """Score the labels of the test split too, by all models; those of validation always are."""
    faces: Annotated[int, Field(ge=1, le=100_000)] = 2000
    """Most faces on the page for review: those first whose label is not clean, and of these the most suspect."""
    thumbnails: bool = True
    """Embed small images of the faces in that page."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the folds and of the intervals; the models' is train.seed."""
