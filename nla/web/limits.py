"""What the server accepts, so that no client takes the memory or the time of the others."""

from __future__ import annotations

from dataclasses import dataclass, field

from nla.limits import ImageLimits

MAX_BODY_BYTES = 64_000_000
"""Of a request: some photographs, or thousands of crops of faces."""
MAX_IMAGES = 64
"""Of a request. Clients that have more send several requests, which are answered at once."""
MAX_FACES = 1000
"""Of a request: crops of all its images, which are kept until they are classified."""
MAX_PIXELS = 50_000_000
"""Of an image, as of a telephone's largest photographs: 150 MB in colour, in each of a few threads that decode."""

MAX_BATCH = 64
"""Faces from which a batch is not waited for any longer."""
BATCH_SECONDS = 0.003
"""How long the first of a batch waits for others: less than a small network takes for one image."""


@dataclass(frozen=True)
class ServerLimits:
    """Limits of one server."""

    max_body_bytes: int = MAX_BODY_BYTES
    max_images: int = MAX_IMAGES
    max_faces: int = MAX_FACES
    images: ImageLimits = field(default_factory=lambda: ImageLimits(MAX_PIXELS, MAX_BODY_BYTES))
    max_batch: int = MAX_BATCH
    """Faces that are classified together, unless one request has more."""
    batch_seconds: float = BATCH_SECONDS
    max_requests: int = 256
    """Answered at the same time; more are told to come again. 64 clients that each send four stay below it."""
    max_held_bytes: int = 1_000_000_000
    """Of the bodies of all requests that are read or wait at the same time."""
    body_seconds: float = 30.0
    """Longest pause of a client within a body."""
