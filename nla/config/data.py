"""`data`: data set, labels, and synthetic class imbalance and label noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from nla.config.base import Section
from nla.limits import (
    LEAST_SIDE,
    MAX_COLUMNS,
    MAX_IMAGE_BYTES,
    MAX_LINE,
    MAX_PIXELS,
    MOST_FACES,
    MOST_IMAGE_BYTES,
    MOST_PIXELS,
    MOST_SIDE,
    ImageLimits,
)

SourceName = Literal["synthetic", "ferplus", "rafdb", "affectnet", "folder", "csv"]
NoiseKind = Literal["symmetric", "asymmetric", "pair"]
LabelRule = Literal["majority", "argmax", "votes", "fer2013"]
OnBad = Literal["error", "quarantine"]
INGEST_KEYS = {"source", "raw", "on_bad", "max_pixels", "max_image_bytes", "max_columns", "synthetic"}
"""Keys that the `ingest` stage depends on; all others concern only the `prepare` stage."""
CORRECTION_KEYS = {"corrections", "correct_test"}
"""Keys of what is corrected by hand."""


class SyntheticConfig(Section):
    """Number of faces that the `synthetic` source draws, and its seed."""

    train: Annotated[int, Field(ge=100, le=MOST_FACES)] = 12000
    valid: Annotated[int, Field(ge=100, le=MOST_FACES)] = 4000
    test: Annotated[int, Field(ge=100, le=MOST_FACES)] = 4000
    seed: Annotated[int, Field(ge=0)] = 0


def require_mapping(kind: NoiseKind, rate: float, mapping: Mapping[str, str], key: str) -> None:
    """Raises ValueError if asymmetric noise is asked for without saying which class becomes which."""
    if kind == "asymmetric" and rate > 0 and not mapping:
        raise ValueError(f"asymmetric noise needs {key}, such as {{fear: surprise}}")


class NoiseConfig(Section):
    """Synthetic label noise in the training split, and in the validation split if asked for."""

    kind: NoiseKind = "symmetric"
    rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training rows whose label is flipped; for `asymmetric`, of the rows whose class is in `mapping`."""
    exact: bool = True
    """Flip round(rate * n) rows; otherwise each row independently with probability `rate`."""
    mapping: dict[str, str] = Field(default_factory=dict)
    """For `asymmetric`: class -> class that replaces it. Classes that are not in it keep their labels."""
    valid: bool = False
    """Flip labels of the validation split in the same way, for users who have no clean labels to choose an epoch by."""

    @model_validator(mode="after")
    def _asymmetric_needs_a_mapping(self) -> NoiseConfig:
        require_mapping(self.kind, self.rate, self.mapping, "data.noise.mapping")
        return self


class DataConfig(Section):
    """Data set, labels, and synthetic class imbalance and label noise."""

    NAME: ClassVar[str] = "data"

    source: SourceName = "synthetic"
    raw: str = "data/raw"
    """Folder with one sub-folder per source."""
    on_bad: OnBad = "error"
    """`error` lists all bad rows and stops; `quarantine` leaves them out and reports them."""
    max_pixels: Annotated[int, Field(ge=256, le=MOST_PIXELS)] = MAX_PIXELS
    """Largest image that is decoded, in pixels; a larger one is a bad row."""
    max_image_bytes: Annotated[int, Field(ge=100, le=MOST_IMAGE_BYTES)] = MAX_IMAGE_BYTES
    """Largest image file that is read; a larger one is a bad row."""
    max_columns: Annotated[int, Field(ge=2, le=MAX_LINE)] = MAX_COLUMNS
    """Most columns of a CSV file; one with more is refused."""
    synthetic: SyntheticConfig = SyntheticConfig()

    image_size: Annotated[int, Field(ge=LEAST_SIDE, le=MOST_SIDE)] = 48
    """Side of the square training images, in pixels."""
    color: Literal["grey", "rgb"] = "grey"
    label_rule: LabelRule = "majority"
    """How votes become a label; sources without votes ignore it, except that `fer2013` needs FER2013's own labels."""
    contempt: Annotated[bool, Field(validate_default=True)] = True
    """Keep the class contempt if the source has it."""
    valid_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of train that becomes the validation split if the source has none."""
    drop_leaks: bool = False
    """Drop training and validation images that are pixel-identical to one of a later split."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the validation split, the imbalance and the noise."""
    imbalance_factor: Annotated[float, Field(ge=1)] | None = None
    """Ratio of the largest to the smallest class of train after sub-sampling; null leaves train as it is."""
    train_rows: Annotated[int, Field(ge=1)] | None = None
    """Number of training rows to keep, with the shares of the classes as they are; null keeps all."""
    noise: NoiseConfig = NoiseConfig()
    corrections: str = "data/corrections.csv"
    """CSV file of corrected labels, which are applied after everything else; one without lines corrects nothing."""
    correct_test: bool = False
    """Apply corrections to test, too; reports then say so."""

    @field_validator("train_rows")
    @classmethod
    def _imbalance_sets_the_rows_itself(cls, rows: int | None, info: ValidationInfo) -> int | None:
        if rows is not None and info.data.get("imbalance_factor") is not None:
            raise ValueError("must be null with data.imbalance_factor, which determines the number of rows")
        return rows

    @field_validator("contempt")
    @classmethod
    def _fer2013_has_no_contempt(cls, contempt: bool, info: ValidationInfo) -> bool:
        if contempt and info.data.get("label_rule") == "fer2013":
            raise ValueError(
                "must be false under data.label_rule: fer2013, as FER2013 has no class contempt, so that no image of "
                "train would have that label"
            )
        return contempt

    @field_validator("noise")
    @classmethod
    def _fer2013_is_noise_already(cls, noise: NoiseConfig, info: ValidationInfo) -> NoiseConfig:
        if noise.rate > 0 and info.data.get("label_rule") == "fer2013":
            raise ValueError(
                "rate must be 0 under data.label_rule: fer2013, whose labels have errors of their own: errors on top "
                "of them could not be told apart"
            )
        return noise

    @property
    def image_limits(self) -> ImageLimits:
        """What is checked before an image is read and decoded."""
        return ImageLimits(self.max_pixels, self.max_image_bytes)
