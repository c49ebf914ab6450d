"""Images for `nla export --int8`: from a table of `prepare`, or a folder of crops, with or without classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from nla.commands.image_inputs import (
    StoredImage,
    find_images,
    none_readable_error,
    read_image,
    report_unreadable,
)
from nla.commands.labelled_set import NONE, LabelledImage, LabelledSet, match_classes, open_set
from nla.console import complain
from nla.data.parallel import map_in_order
from nla.data.problems import Problem
from nla.data.sources.image_files import image_names, subfolders
from nla.errors import DataError
from nla.limits import ImageLimits
from nla.models.base import ImageSpec
from nla.text import shown

VALID = Path("data/valid.parquet")
MOST = 4096
"""Images that are read, evenly spaced; at 112 px in colour they take 150 MB."""
FEWEST = 100
"""Fewer may not show the range of every activation."""
AHEAD = 256


@dataclass(frozen=True)
class CalibrationImages:
    """N images as the model takes them, with what is known of their labels."""

    images_NHWC: np.ndarray
    label_N: np.ndarray
    """Indices into the model's classes; NONE, -1, where the label is unknown or no class of the model."""


def read_calibration_images(path: Path, spec: ImageSpec, classes: Sequence[str]) -> CalibrationImages:
    """Reads MOST images of a table or folder, and lists those that cannot be read on standard error.

    Args:
        path: a table of `prepare`; a folder with a subfolder per class; or a folder of images without classes.
        spec: size and colour of the model's images.
        classes: the model's, by whose names those of the set are matched.

    Raises:
        DataError: there are no such images, or none can be read.
    """
    if not path.exists():
        raise DataError(
            f"{path}: not found. int8 needs images like those of the training data, to see the ranges of values: run "
            "`dvc repro prepare`, or name crops of faces by --calibrate FOLDER, or a table by --calibrate FILE.parquet."
        )
    stored, labels = _listed(path, classes)
    found = map_in_order(lambda image: read_image(image, spec, ImageLimits()), stored, AHEAD)
    images, known, problems = [], [], list[Problem]()
    for pixels, label in zip(found, labels, strict=True):
        if isinstance(pixels, Problem):
            problems.append(pixels)
            continue
        images.append(pixels)
        known.append(label)
    if not images:
        raise none_readable_error(problems)
    report_unreadable(problems)
    if len(images) < FEWEST:
        few = f"only {len(images)} images of {shown(str(path))} for the ranges of values"
        complain(f"warning: {few}. Give {FEWEST} at least, or compare the answers.")
    images_NHWC = np.stack(images).reshape(len(images), spec.size, spec.size, spec.channels)
    return CalibrationImages(images_NHWC, np.array(known))


def _listed(path: Path, classes: Sequence[str]) -> tuple[list[StoredImage], list[int]]:
    """The chosen images, with the indices of their labels."""
    if path.is_dir() and not any(image_names(folder) for folder in subfolders(path)):
        names = find_images([str(path)])
        stored = [StoredImage(name, Path(name)) for name in names[:: _step(len(names))]]
        return stored, [NONE] * len(stored)
    labelled = open_set(path)
    index_S = match_classes(labelled.classes, classes, {}, shared=False).index_S
    chosen = _chosen(labelled)
    return [*chosen], [int(index_S[image.label]) for image in chosen]


def _chosen(labelled: LabelledSet) -> list[LabelledImage]:
    return list(islice(labelled.images(), 0, None, _step(len(labelled.label_N))))


def _step(n: int) -> int:
    return -(-n // MOST)
