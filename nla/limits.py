"""Limits that protect from hostile or mistaken input, wherever it comes from.

Those of images and lists are defaults of the section `data` of params.yaml. Depth has no parameter: it holds for
params.yaml itself, before any value of it is known.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_PIXELS = 100_000_000
"""Largest image that is decoded, in pixels: 300 MB in colour. More than any face needs; a small file can claim far more
(900 megapixels of one colour are a PNG of 0.9 MB), and a few such requests would take a server's memory."""

MAX_IMAGE_BYTES = 50_000_000
"""Largest image file that is read, in bytes: several times a photograph of 50 megapixels."""

MAX_COLUMNS = 1000
"""Columns of a list of images, or of a table: many times what one with the votes of annotators has."""

MAX_LINE = 1 << 20
"""Characters of a line of a CSV file: a hundred times a face of 48 x 48 pixels as numbers."""

MAX_DEPTH = 20
"""Levels of nesting of a YAML file: four times those of params.yaml. JSON has the limit of its parser, 200."""

MAX_VALUES = 100_000
"""Values of a YAML file, with those that aliases repeat: a kilobyte of aliases of aliases can stand for billions."""

MAX_WHOLE = 2**63
"""Whole numbers in params.yaml are smaller in size: larger ones fit neither PyTorch's seeds nor NumPy's integers."""


@dataclass(frozen=True)
class ImageLimits:
    """What is checked before an image is read and decoded."""

    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_IMAGE_BYTES
    """Of the encoded image."""
