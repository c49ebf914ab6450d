"""`model`: the network and its initial weights."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from nla.config.base import Section

RESNETS = ("resnet18", "resnet34", "resnet50")


class ModelConfig(Section):
    """The network and its initial weights."""

    NAME: ClassVar[str] = "model"

    name: str = "resnet18"
    """resnet18, -34, -50, or timm/NAME for any timm network (`pip install -e .[timm]`), without width and stem."""
    width: Annotated[int, Field(ge=4, le=256)] = 16
    """Channels after the stem; 64 as in the published ResNet."""
    stem: str = "stride2"
    """imagenet: 7x7 stride 2 and max pooling; stride2: 3x3 stride 2; stride1: 3x3 stride 1."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout probability before the last layer."""
    head: Literal["linear", "cosine"] = "linear"
    """The last layer. cosine: scaled cosines of features and class weights, as in LDAM; only for our ResNets."""
    weights: str | None = None
    """Local .pth or .safetensors file with initial weights; null trains from scratch."""

    @field_validator("name")
    @classmethod
    def _known_name(cls, name: str) -> str:
        if name not in RESNETS and not name.startswith("timm/"):
            raise ValueError(f"unknown network: valid are {', '.join(RESNETS)} and timm/NAME")
        return name

    @field_validator("stem")
    @classmethod
    def _known_stem(cls, stem: str) -> str:
        if stem not in ("imagenet", "stride2", "stride1"):
            raise ValueError("unknown stem: valid are imagenet, stride2, stride1")
        return stem

    @model_validator(mode="after")
    def _head_of_ours(self) -> Self:
        if self.head != "linear" and self.name not in RESNETS:
            raise ValueError(f"head {self.head} is of {', '.join(RESNETS)} alone")
        return self
