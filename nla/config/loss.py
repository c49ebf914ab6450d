"""`loss`: the training method. A null means the variant's published value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from nla.config.base import Section

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class LossConfig(Section):
    """The training method; the fields in OF_NLA are arguments of NLALoss, and null means the variant's value."""

    NAME: ClassVar[str] = "loss"

    name: str = "nla"
    """A key of nla.methods.METHODS, where it is checked: this section is also read without importing the networks."""
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Options of any method except nla, by name; those left out have their published values."""
    variant: Literal["released", "paper"] = "paper"
    lam: Probability | None = None
    """Share of the classification term; the consistency term gets 1 - lam unless consistency_weight is given."""
    true_mean: tuple[float, float] | None = Field(default=None, strict=False)
    """(p_GT, p_NN) at the peak of the weight of true samples, whose given label wins."""
    false_mean: tuple[float, float] | None = Field(default=None, strict=False)
    true_deviation: Positive | None = None
    """Major standard deviation s; the minor one is s / ratio."""
    false_deviation: Positive | None = None
    true_ratio: Positive | None = None
    false_ratio: Positive | None = None
    slope: Annotated[float, Field(ge=0)] | None = None
    """Slope of the schedule 1 - exp(-slope * progress)."""
    true_sign: Literal[-1, 1] | None = None
    """Sign of the off-diagonal for true samples."""
    normalized: bool | None = None
    """Weight with a peak of 1 instead of a density."""
    detach: bool | None = None
    """No gradient through the weight."""
    consistency: Literal["jensen_shannon", "bhattacharyya", "none"] | None = None
    consistency_reduction: Literal["mean", "sum"] | None = None
    consistency_weight: Annotated[float, Field(ge=0)] | None = None


OF_NLA = LossConfig.model_fields.keys() - {"name", "options"}
"""Arguments of NLALoss, which other methods do not use."""


def without_nla(loss: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the section `loss` without NLA's arguments, for other methods, which would reject them."""
    return {key: value for key, value in loss.items() if key not in OF_NLA - {"variant"}}
