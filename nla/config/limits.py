"""Limits that protect from hostile or mistaken input, wherever it comes from."""

from __future__ import annotations

MAX_PIXELS = 100_000_000
"""Largest image that is decoded, in pixels: 300 MB in colour. More than any face needs; a small file can claim far more
(900 megapixels of one colour are a PNG of 0.9 MB), and a few such requests would take a server's memory."""

MAX_COLUMNS = 1000
"""Columns of a list of images: many times what one with the votes of annotators has."""

MAX_DEPTH = 20
"""Levels of nesting of a YAML file: four times those of params.yaml."""
