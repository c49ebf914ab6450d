"""`loss`: the training method. Every null stands for the variant's published value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from nla.config.base import Section

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class LossConfig(Section):
    """The training method; the fields of OF_NLA are NLALoss's, null for the variant's own value."""

    NAME: ClassVar[str] = "loss"

    name: str = "nla"
    """Of nla.methods.METHODS, which knows them all: this section is read where no network is."""
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Of any method but nla, by their own names; what is left out has its published value."""
    variant: Literal["released", "paper"] = "paper"
    lam: Probability | None = None
    """Share of the classification term; the consistency term has 1 - lam unless consistency_weight is given."""
    true_mean: tuple[float, float] | None = Field(default=None, strict=False)
    """(p_GT, p_NN) at the peak of the weight where the given label wins."""
    false_mean: tuple[float, float] | None = Field(default=None, strict=False)
    true_deviation: Positive | None = None
    """Major standard deviation s; the minor one is s / ratio."""
    false_deviation: Positive | None = None
    true_ratio: Positive | None = None
    false_ratio: Positive | None = None
    slope: Annotated[float, Field(ge=0)] | None = None
    """Of the schedule 1 - exp(-slope * progress)."""
    true_sign: Literal[-1, 1] | None = None
    """Of the off-diagonal where the given label wins."""
    normalized: bool | None = None
    """Weight with a peak of 1 instead of a density."""
    detach: bool | None = None
    """No gradient through the weight."""
    consistency: Literal["jensen_shannon", "bhattacharyya", "none"] | None = None
    consistency_reduction: Literal["mean", "sum"] | None = None
    consistency_weight: Annotated[float, Field(ge=0)] | None = None


OF_NLA = LossConfig.model_fields.keys() - {"name", "options"}
"""NLALoss's arguments, which other methods do not look at."""


def without_nla(loss: Mapping[str, Any]) -> dict[str, Any]:
    """A section `loss` for another method than NLA, which would refuse NLA's arguments."""
    return {key: value for key, value in loss.items() if key not in OF_NLA - {"variant"}}
