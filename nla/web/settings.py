"""What a server is told: the options of `nla serve`, and the arguments of the application in cluster/serve.yaml."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nla.config.base import Section
from nla.limits import MAX_WHOLE, ImageLimits
from nla.web.limits import BATCH_SECONDS, MAX_BATCH, MAX_BODY_BYTES, MAX_IMAGES, MAX_PIXELS, ServerLimits

LONGEST_WAIT_MS = 1000
Positive = Annotated[int, Field(gt=0, lt=MAX_WHOLE)]


class ServerSettings(Section):
    """Each field is an option of `nla serve` by the same name."""

    NAME: ClassVar[str] = "args"

    model: str | None = None
    """A folder or .safetensors file, models:/NAME@ALIAS or models:/NAME/VERSION; None: as `chosen_model` chooses."""
    allow_host: tuple[str, ...] = Field(default=(), strict=False)
    """Further names that the header Host may have."""
    detector: Literal["auto", "yunet", "dlib"] = "auto"
    """Of faces in photos."""
    device: str = "auto"
    """As `find_device` takes it."""
    cropped: bool = False
    """Whether all images are taken as crops of faces."""
    poll: Positive = 10
    """Seconds between looks for a newer version of the model."""
    max_body: Positive = MAX_BODY_BYTES
    """Bytes of a request."""
    max_images: Positive = MAX_IMAGES
    """Of a request."""
    max_pixels: Positive = MAX_PIXELS
    """Of an image."""
    max_batch: Positive = MAX_BATCH
    """Faces that are classified together, unless one request has more."""
    batch_wait: float = Field(default=1000 * BATCH_SECONDS, ge=0, le=LONGEST_WAIT_MS)
    """Milliseconds that the first of a batch waits for others."""

    def limits(self) -> ServerLimits:
        """What the server accepts."""
        return ServerLimits(
            self.max_body,
            self.max_images,
            images=ImageLimits(self.max_pixels, self.max_body),
            max_batch=self.max_batch,
            batch_seconds=self.batch_wait / 1000,
        )
