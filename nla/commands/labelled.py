"""A labelled set outside training: a table written by stage `prepare`, or a folder with one subfolder per class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from nla.commands.answers import Stored
from nla.data.schema import read_info
from nla.data.sources.files import SUFFIXES, image_names
from nla.errors import DataError

ROWS = 1024  # rows of a table read at a time
COLUMNS = ["row", "clean_label", "image"]


@dataclass(frozen=True)
class Labelled(Stored):
    """An image with its label."""

    row: int
    label: int
    """Index of its class in the classes of the set."""


@dataclass(frozen=True)
class LabelledSet:
    """N images, read lazily."""

    classes: tuple[str, ...]
    label_N: np.ndarray
    """Indices into `classes`, [N]."""
    images: Callable[[], Iterator[Labelled]]
    """Returns an iterator over all images, in the order of `label_N`."""


def open_set(path: Path) -> LabelledSet:
    """Opens the set at `path`; the labels of a table are those before noise.

    Raises:
        DataError: it does not exist, or is neither a table of `prepare` nor a folder of classes.
    """
    if not path.exists():
        raise DataError(
            f"{path} does not exist: give data/test.parquet or its like, or a folder with one folder a class"
        )
    return _of_folder(path) if path.is_dir() else _of_table(path)


def _of_folder(root: Path) -> LabelledSet:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = [(label, name) for label, folder in enumerate(folders) for name in image_names(folder)]
    if not names:
        raise DataError(
            f"{root} holds no CLASS/IMAGE: make a folder a class, with its images in it ({', '.join(SUFFIXES)})"
        )

    def images() -> Iterator[Labelled]:
        for row, (label, name) in enumerate(names):
            yield Labelled(f"{folders[label].name}/{name}", folders[label] / name, row, label)

    return LabelledSet(tuple(folder.name for folder in folders), np.array([label for label, _ in names]), images)


def _of_table(path: Path) -> LabelledSet:
    info = read_info(path)
    if lacking := [name for name in COLUMNS if name not in pq.read_schema(path).names]:
        raise DataError(
            f"{path} has no column {', '.join(lacking)}: give a table of `prepare`, such as data/test.parquet"
        )
    label_N = pq.read_table(path, columns=["clean_label"])["clean_label"].to_numpy()
    return LabelledSet(info.classes, label_N, partial(_rows, path))


def _rows(path: Path) -> Iterator[Labelled]:
    for batch in pq.ParquetFile(path).iter_batches(ROWS, columns=COLUMNS):
        for of in batch.to_pylist():
            yield Labelled(of["image"]["path"], of["image"]["bytes"], of["row"], of["clean_label"])
