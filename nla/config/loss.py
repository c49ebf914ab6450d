"""Section `loss`: the training method and its options.

Options of `nla` are fields of the section, in which null means the published default of `variant`; options of all other
methods are in `options`. `given_options` and `with_options` hide the difference from other code. The effective values
are those of nla.methods.method_options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from nla.config.base import Section

NLA = "nla"
"""The method whose options are fields of the section."""
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class LossConfig(Section):
    """The training method and its options."""

    NAME: ClassVar[str] = "loss"

    name: str = "nla"
    """A key of nla.methods.METHODS, where it is checked: this section is also read without importing torch."""
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Options of any other method than nla, by name; those left out have their published defaults."""
    variant: Literal["released", "paper", "released-video"] = "paper"
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

    @property
    def given_options(self) -> dict[str, Any]:
        """The options that params.yaml sets for the method; for nla these are its variant and the fields not null."""
        return self.model_dump(include=set(NLA_FIELDS), exclude_none=True) if self.name == NLA else dict(self.options)

    @property
    def unused_fields(self) -> list[str]:
        """Fields that are not null although the method does not take them."""
        unused = _unused_fields(self.name)
        return [name for name in type(self).model_fields if name in unused and getattr(self, name) is not None]

    @property
    def label(self) -> str:
        """The method for messages: its name, for nla with the variant."""
        return f"{self.name} ({self.variant})" if self.name == NLA else self.name

    @property
    def options_key(self) -> str:
        """Where params.yaml has the options of the method, as a dotted name."""
        return "loss" if self.name == NLA else "loss.options"

    def with_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The section with these options, JSON-serializable, without fields that the method does not take."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
        section = {"name": self.name, "variant": self.variant, "options": {}}
        return section | (values if self.name == NLA else {"options": values})


NLA_FIELDS = frozenset(LossConfig.model_fields) - {"name", "options"}
"""Options of nla, which other methods do not take."""


def without_unused(loss: Mapping[str, Any]) -> dict[str, Any]:
    """A raw section `loss` without the fields of nla if its method is another one, which would refuse them."""
    unused = _unused_fields(loss.get("name", NLA))
    return {key: value for key, value in loss.items() if key not in unused}


def _unused_fields(method: str) -> frozenset[str]:
    """Fields that the method does not take; `variant` has a value for every method, as figures draw its weight."""
    return frozenset() if method == NLA else NLA_FIELDS - {"variant"}
