"""`data`: which faces, which labels, and what is done to the labels on purpose."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from nla.config.base import Section

SourceName = Literal["synthetic", "ferplus", "rafdb", "affectnet", "folder", "csv"]
NoiseKind = Literal["symmetric", "asymmetric", "pair"]
LabelRule = Literal["majority", "argmax", "votes"]
OnBad = Literal["error", "quarantine"]
OF_SOURCE = {"source", "raw", "on_bad", "synthetic"}
"""Keys that stage `ingest` needs: they make the faces, and the others say what becomes of them."""


class SyntheticConfig(Section):
    """How many faces the `synthetic` source draws, and from which seed."""

    train: Annotated[int, Field(ge=100)] = 12000
    valid: Annotated[int, Field(ge=100)] = 4000
    test: Annotated[int, Field(ge=100)] = 4000
    seed: Annotated[int, Field(ge=0)] = 0


class NoiseConfig(Section):
    """Labels of the training split that are wrong on purpose."""

    kind: NoiseKind = "symmetric"
    rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training rows whose label is replaced by another; for `asymmetric`, of those in `mapping`."""
    exact: bool = True
    """round(rate * n) rows; otherwise each row independently with probability `rate`."""
    mapping: dict[str, str] = Field(default_factory=dict)
    """For `asymmetric`: class -> the class it is taken for. Classes not named keep their labels."""

    @model_validator(mode="after")
    def _asymmetric_needs_a_mapping(self) -> NoiseConfig:
        if self.kind == "asymmetric" and self.rate > 0 and not self.mapping:
            raise ValueError("asymmetric noise needs data.noise.mapping, such as {fear: surprise}")
        return self


class DataConfig(Section):
    """Which faces, which labels, and what is done to the labels on purpose."""

    NAME: ClassVar[str] = "data"

    source: SourceName = "synthetic"
    raw: str = "data/raw"
    """Folder with one sub-folder a source."""
    on_bad: OnBad = "error"
    """`error` lists all bad rows and stops; `quarantine` leaves them out and says which."""
    synthetic: SyntheticConfig = SyntheticConfig()

    image_size: Annotated[int, Field(ge=16, le=512)] = 48
    """Side of the square training image in pixels."""
    color: Literal["grey", "rgb"] = "grey"
    label_rule: LabelRule = "majority"
    """How votes become a label; sources without votes ignore it."""
    contempt: bool = True
    """Keep the class contempt where the source has it."""
    valid_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Part of train that becomes the validation split where the source has none."""
    drop_leaks: bool = False
    """Drop training and validation images that are pixel-identical to one of a later split."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the validation split, the imbalance and the noise."""
    imbalance_factor: Annotated[float, Field(ge=1)] | None = None
    """Largest over smallest class of train after sub-sampling; null leaves train as it is."""
    noise: NoiseConfig = NoiseConfig()
