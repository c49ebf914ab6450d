"""Labelled images for `nla audit`: a folder with one subfolder per class, or a CSV list with the columns image, label.

Images of a list are relative to its folder.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nla.commands.image_inputs import none_readable_error, report_unread, report_unreadable
from nla.commands.labelled_set import LabelledImage, LabelledSet, open_set
from nla.console import bar
from nla.data.images import decode, fit, pixel_hash
from nla.data.parallel import map_in_order
from nla.data.problems import Problem, first_lines
from nla.data.samples import Annotations, Samples
from nla.data.sources.csv_rows import check_columns, short_lines
from nla.errors import DataError
from nla.io import regular
from nla.limits import MAX_COLUMNS, ImageLimits
from nla.text import shown

IMAGE, LABEL = "image", "label"
BATCH = 64
"""Images that threads read ahead."""


def open_labels(path: Path) -> LabelledSet:
    """Opens the folder, table or list at `path`.

    Raises:
        DataError: it cannot be used; of a list, all lines that are wrong are named.
    """
    return _open_list(path) if path.suffix.lower() in (".csv", ".txt") and path.is_file() else open_set(path)


def _open_list(path: Path) -> LabelledSet:
    problems: list[Problem] = []
    rows = [*_rows(path, problems)]
    if problems:
        raise DataError(
            "\n".join([f"{path}: {len(problems)} lines cannot be used. Correct them.", *first_lines(problems)])
        )
    classes = tuple(sorted({label for _, label in rows}))
    label_N = np.array([classes.index(label) for _, label in rows], np.int64)

    def images() -> Iterator[LabelledImage]:
        for row, ((name, _), label) in enumerate(zip(rows, label_N.tolist(), strict=True)):
            yield LabelledImage(shown(name), path.parent / name, row, label)

    return LabelledSet(classes, label_N, images)


def _rows(path: Path, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    """(image, label) of each line; what is wrong with a line is appended to `problems`."""
    try:
        with regular(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(short_lines(path, file), strict=True)
            check_columns(path, reader.fieldnames or (), MAX_COLUMNS)
            if missing := [name for name in (IMAGE, LABEL) if name not in (reader.fieldnames or ())]:
                raise DataError(f"{path}: no column {', '.join(missing)}. Write the columns {IMAGE} and {LABEL}.")
            for row in reader:
                values = [(row[name] or "").strip() for name in (IMAGE, LABEL)]
                if all(values):
                    yield values[0], values[1]
                else:
                    empty = [name for name, value in zip((IMAGE, LABEL), values, strict=True) if not value]
                    problems.append(Problem(path.name, reader.line_num, f"{' and '.join(empty)} without a value"))
    except (csv.Error, UnicodeError) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error}). Save it as that.") from None


@dataclass(frozen=True)
class ReadImages:
    """The N readable images."""

    samples: Samples
    path_N: list[str]
    pixels_N: list[str]
    """Hex of the hash of each image's pixels, as in faces.parquet."""

    @property
    def annotations(self) -> Annotations:
        """Nothing but the labels."""
        return Annotations(None, None, self.samples.label_N, np.zeros(len(self.samples), bool))


def read_images(labelled: LabelledSet, size: int, color: str, source: str) -> ReadImages:
    """Reads all images at `size` and `color`, grey or rgb. Unreadable ones are reported and left out.

    Raises:
        DataError: no image can be read.
    """
    report_unread(labelled.unread)
    problems: list[Problem] = []
    kept: list[tuple[LabelledImage, np.ndarray, str]] = []

    def read(image: LabelledImage) -> tuple[np.ndarray, str] | Problem:
        try:
            pixels = decode(image.read(ImageLimits()))
        except (DataError, OSError) as error:
            return Problem(image.path, None, str(error))
        return fit(pixels, size, "rgb" if color == "rgb" else "grey"), pixel_hash(pixels).hex()

    with bar("read", "images") as update:
        for image, found in map_in_order(lambda image: (image, read(image)), labelled.images(), BATCH):
            if isinstance(found, Problem):
                problems.append(found)
            else:
                kept.append((image, *found))
            update(len(kept) + len(problems), len(labelled.label_N))
    if not kept:
        raise none_readable_error(problems)
    report_unreadable(problems)
    images_NHWC = np.stack([pixels.reshape(size, size, -1) for _, pixels, _ in kept])
    label_N = np.array([image.label for image, _, _ in kept], np.int64)
    row_N = np.array([image.row for image, _, _ in kept], np.int64)
    samples = Samples(images_NHWC, label_N, None, row_N, labelled.classes, source)
    return ReadImages(samples, [image.path for image, _, _ in kept], [pixels for _, _, pixels in kept])
