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

LEAST_SIDE, MOST_SIDE = 16, 512
"""Sides of the square images that networks are trained on, in pixels."""

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

MAX_NUMBER = 1e30
"""All other numbers in params.yaml are no larger in size: their products would be infinite, in single precision even
their squares are."""

# The largest whole numbers of params.yaml that ask for work or memory: far more than anybody needs, and so small that a
# typing error, such as a number with too many zeros, ends in a line instead of a machine without memory.

MOST_PIXELS = 2**30
"""Largest `data.max_pixels`: OpenCV decodes no larger image (CV_IO_MAX_IMAGE_PIXELS)."""

MOST_IMAGE_BYTES = 2**31 - 1
"""Largest `data.max_image_bytes`: OpenCV counts the bytes of an encoded image by 32 bits."""

MOST_FACES = 10_000_000
"""Faces that the synthetic source draws for a split."""

MOST_EPOCHS = 100_000
"""Epochs of a run, each of which is a line of its history."""

MOST_ROWS_OF_A_BATCH = 1_000_000
"""Images of a batch."""

MOST_RESAMPLES = 100_000
"""Bootstrap resamples: the standard error of a normal statistic's 95 % interval is 0.2 % of its width by then."""

MOST_TRIALS = 100_000
"""Trials of a search, and candidates of a study, which are all planned before the first begins."""

MOST_VALUES_OF_A_RANGE = 1_000_000
"""Values of a searched `randint` or `quniform`, which Optuna's Gaussian process lists."""

MOST_WORKERS = 10_000
"""Workers or processors that one run asks Ray for, and restarts after it loses one."""

LARGEST_SEED = 2**31 - 1
"""Of a search: NumPy's older generators, which Ray and Optuna use, take 32 bits, and later batches add to it."""


@dataclass(frozen=True)
class ImageLimits:
    """What is checked before an image is read and decoded."""

    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_IMAGE_BYTES
    """Of the encoded image."""
