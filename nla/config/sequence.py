"""`sequence`: the model of clips, which sees the frames around each frame."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from nla.config.base import Section
from nla.config.loss import LossConfig
from nla.config.train import TrainConfig

MOST_FRAMES = 10_000
"""Frames of a window: attention needs memory for their square."""
Sigma = Annotated[float, Field(ge=0, le=1000)]


class SequenceModelConfig(Section):
    """The network over the features of the frames of a clip."""

    name: Literal["transformer", "convolution"] = "transformer"
    width: Annotated[int, Field(ge=4, le=4096)] = 64
    """Features of a frame inside the network; 512 in V-NAW."""
    layers: Annotated[int, Field(ge=1, le=48)] = 2
    """4 in V-NAW."""
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    """Of the transformer; `width` must be divisible by it; 1 in V-NAW."""
    feedforward: Annotated[int, Field(ge=1, le=16384)] = 128
    """Of the transformer; 512 in V-NAW."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """.6 in V-NAW."""
    positions: bool = False
    """Adds the frame's number as sines, for the transformer; V-NAW has none."""
    kernel: Annotated[int, Field(ge=1, le=101)] = 5
    """Frames that a layer of the convolution sees, an odd number; layer i sees every 2^i-th frame."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.name == "transformer" and self.width % self.heads:
            raise ValueError(f"width={self.width} must be divisible by heads={self.heads}")
        if self.positions and self.width % 2:
            raise ValueError(f"width={self.width} must be even with positions")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel={self.kernel} must be odd")
        return self


class SequenceConfig(Section):
    """The model of clips, its training, and the smoothing that it is compared with."""

    NAME: ClassVar[str] = "sequence"

    model: SequenceModelConfig = SequenceModelConfig()
    window: Annotated[int, Field(ge=2, le=MOST_FRAMES)] = 100
    """Frames that the model sees at once."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of a window that it has in common with the next one, when all frames are predicted."""
    resample: Literal["none", "drop", "speed"] = "drop"
    """Frames that training sees: all of a window; without a random share of them, against frames that are nearly alike
    (V-NAW's text); or at a random speed (V-NAW's code)."""
    drop: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=(0.2, 0.4), strict=False
    )
    """Range of the share that `drop` leaves out."""
    speed: tuple[Annotated[float, Field(gt=0, le=10)], Annotated[float, Field(gt=0, le=10)]] = Field(
        default=(0.6, 1.4), strict=False
    )
    """Range of the factor of `speed`."""
    loss: LossConfig = LossConfig()
    """nla, in any variant, or ce."""
    train: TrainConfig = TrainConfig(epochs=20, batch_size=8, lr=1e-3, weight_decay=0.05, select="macro_f1")
    smoothing: tuple[Sigma, ...] = Field(default=(0.0, 1.0, 2.0, 4.0, 8.0), strict=False, min_length=1)
    """Widths, in frames, of the smoothing of the frame model's scores, of which validation chooses one; 0: none."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.loss.name not in ("nla", "ce"):
            raise ValueError(f"loss.name must be nla or ce for sequences (got {self.loss.name!r})")
        if self.loss.options or (self.loss.name == "ce" and self.loss.unused_fields):
            raise ValueError("loss: ce has no options; those of nla are fields of the section")
        for name in ("drop", "speed"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be [low, high] with low <= high (got [{low:g}, {high:g}])")
        if self.train.sampler != "shuffle" or self.train.compile:
            raise ValueError("train: sampler must be shuffle, and compile false, for sequences")
        return self
