"""`clips`: clips of faces, their labels frame by frame, and synthetic label noise per frame or per segment."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from nla.config.base import Section
from nla.config.data import NoiseKind, OnBad, require_mapping
from nla.limits import (
    LEAST_SIDE,
    MAX_COLUMNS,
    MAX_IMAGE_BYTES,
    MAX_LINE,
    MAX_PIXELS,
    MOST_IMAGE_BYTES,
    MOST_PIXELS,
    MOST_SIDE,
    ImageLimits,
)

ClipSourceName = Literal["drawn", "affwild2", "clips"]
Videos = Annotated[int, Field(ge=2, le=1_000_000)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
READING_KEYS = {
    "source",
    "raw",
    "on_bad",
    "unannotated",
    "classes",
    "valid_fraction",
    "test_fraction",
    "seed",
    "max_pixels",
    "max_image_bytes",
    "max_columns",
    "drawn",
}
"""Keys that the stage `clips` depends on; the others concern only what follows."""


class DrawnConfig(Section):
    """The clips that the source `drawn` makes."""

    train: Videos = 200
    """Videos of each split."""
    valid: Videos = 40
    test: Videos = 60
    frames: Annotated[int, Field(ge=10, le=20_000)] = 80
    """Frames of each video."""
    hidden: Annotated[float, Field(ge=0, le=0.5)] = 0.15
    """Share of the frames in which a hand, and of those in which blur, hides a part of the face."""
    seed: Annotated[int, Field(ge=0)] = 0


class ClipNoiseConfig(Section):
    """Synthetic label noise in the training videos; validation and test stay clean."""

    law: Literal["frame", "segment"] = "frame"
    """frame: each frame by itself; segment: whole stretches, as an annotator mislabels them."""
    kind: NoiseKind = "symmetric"
    rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Exact share of the annotated training frames that get a wrong label; for `asymmetric`, of those in `mapping`."""
    mapping: dict[str, str] = Field(default_factory=dict)
    """For `asymmetric`: class -> class that replaces it. Classes that are not in it keep their labels."""
    segment: Annotated[int, Field(ge=2, le=10_000)] = 25
    """For `segment`: longest stretch with one wrong label, in frames."""

    @model_validator(mode="after")
    def _asymmetric_needs_a_mapping(self) -> ClipNoiseConfig:
        require_mapping(self.kind, self.rate, self.mapping, "clips.noise.mapping")
        return self


class ClipsConfig(Section):
    """Clips of faces, with labels of their frames."""

    NAME: ClassVar[str] = "clips"

    source: ClipSourceName = "drawn"
    raw: str = "data/raw"
    """Folder with one sub-folder per source."""
    on_bad: OnBad = "error"
    """`error` lists all bad frames and stops; `quarantine` leaves them out and reports them. No other label moves."""
    unannotated: Literal["mask", "other"] = "mask"
    """What becomes of a frame labelled -1 in `affwild2`: mask: it has no label, and nothing is learnt from it; other:
    the label Other, as in the code of V-NAW."""
    classes: tuple[str, ...] | None = Field(default=None, strict=False)
    """Names of the classes of the source `clips`, in order; null: all that its lists name, sorted."""
    valid_fraction: Fraction = 0.15
    """Share of the videos that becomes the validation split where the source has none."""
    test_fraction: Fraction = 0.2
    """Share of the videos that becomes the test split where the source has none."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of drawn splits and of the noise."""
    max_pixels: Annotated[int, Field(ge=256, le=MOST_PIXELS)] = MAX_PIXELS
    """Largest image that is decoded, in pixels; a larger one is a bad frame."""
    max_image_bytes: Annotated[int, Field(ge=100, le=MOST_IMAGE_BYTES)] = MAX_IMAGE_BYTES
    """Largest image file that is read, in bytes."""
    max_columns: Annotated[int, Field(ge=2, le=MAX_LINE)] = MAX_COLUMNS
    """Columns that a list of labels may have."""
    drawn: DrawnConfig = DrawnConfig()
    image_size: Annotated[int, Field(ge=LEAST_SIDE, le=MOST_SIDE)] = 48
    """Side to which faces are resized for the frame model."""
    color: Literal["grey", "rgb"] = "grey"
    step: Annotated[int, Field(ge=1, le=10_000)] = 4
    """The frame model sees every `step`-th annotated frame of a training video, as neighbours are nearly alike."""
    votes: bool = False
    """Learn the annotators' distribution instead of the label, where a source has votes."""
    noise: ClipNoiseConfig = ClipNoiseConfig()

    @property
    def image_limits(self) -> ImageLimits:
        """What is checked before an image is read and decoded."""
        return ImageLimits(self.max_pixels, self.max_image_bytes)
