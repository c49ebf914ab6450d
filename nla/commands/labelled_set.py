"""A labelled set outside of training, and the correspondence of its classes with those of a model.

A set is a table written by the `prepare` stage, or a folder with one subfolder per class.

Legend: N images, C classes of the model, S of the set, M that metrics cover.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from nla.commands.image_inputs import StoredImage
from nla.config.base import nearest
from nla.data.schema import corrected, read_info, read_samples
from nla.data.sources.image_files import SUFFIXES, image_names, subfolders
from nla.data.sources.unread_files import unread
from nla.errors import DataError
from nla.io import read_batches
from nla.text import shown

ROWS = 1024
"""Rows of a table that are read at a time."""
COLUMNS = ["row", "clean_label", "image"]
NONE = -1
"""Index of a class that the model does not have."""


@dataclass(frozen=True)
class LabelledImage(StoredImage):
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
    images: Callable[[], Iterator[LabelledImage]]
    """Returns an iterator over all images, in the order of `label_N`."""
    unread: tuple[str, ...] = ()
    """Lines on the files of a folder that do not belong to the set: how many, where and why."""
    corrected: int = 0
    """Rows of a table that were corrected by hand, or left out."""


def open_set(path: Path) -> LabelledSet:
    """Opens the set at `path`; the labels of a table are those before noise.

    Raises:
        DataError: it does not exist, or is neither a table of `prepare` nor a folder of classes.
    """
    if not path.exists():
        raise DataError(
            f"{path}: not found. Name a table of `prepare`, such as data/test.parquet, or a folder with one subfolder "
            "per class."
        )
    return _open_folder(path) if path.is_dir() else _open_table(path)


def _open_folder(root: Path) -> LabelledSet:
    folders = subfolders(root)
    names = [(label, name) for label, folder in enumerate(folders) for name in image_names(folder)]
    read = {f"{folders[label].name}/{name}" for label, name in names}
    lines = unread(root, read, "they do not lie directly in a folder of a class")
    if not names:
        what = f"{root}: no images in subfolders. Make one folder of images ({', '.join(SUFFIXES)}) per class."
        raise DataError("\n  ".join([what, *lines]))

    def images() -> Iterator[LabelledImage]:
        for row, (label, name) in enumerate(names):
            yield LabelledImage(shown(f"{folders[label].name}/{name}"), folders[label] / name, row, label)

    label_N = np.array([label for label, _ in names])
    return LabelledSet(tuple(shown(folder.name) for folder in folders), label_N, images, tuple(lines))


def _open_table(path: Path) -> LabelledSet:
    read_info(path)
    if lacking := [name for name in COLUMNS if name not in pq.read_schema(path).names]:
        raise DataError(
            f"{path}: no column {', '.join(lacking)}. Name a table of `prepare`, such as data/test.parquet."
        )
    info, table = read_samples(path, ["row", "clean_label"])
    if not table.num_rows:
        raise DataError(f"{path}: has no rows. Name a table with images, such as data/test.parquet.")
    label_N, changed = table["clean_label"].to_numpy(), corrected(path).changed
    return LabelledSet(info.classes, label_N, partial(_rows, path), corrected=changed)


def _rows(path: Path) -> Iterator[LabelledImage]:
    for batch in read_batches(path, COLUMNS, ROWS, "Name an intact table of `prepare`."):
        for row in batch.to_pylist():
            image = row["image"] or {}
            yield LabelledImage(
                image.get("path") or f"row {row['row']}", image.get("bytes") or b"", row["row"], row["clean_label"]
            )


@dataclass(frozen=True)
class ClassMatching:
    """Correspondence between the classes of the set and those of the model."""

    classes: tuple[str, ...]
    """Names of the M classes, in the model's order."""
    index_S: np.ndarray
    """Index in `classes` of each class of the set, [S]; NONE if the model does not have it."""
    model_index_M: np.ndarray
    """Indices of `classes` among the model's classes, [M]."""

    def restrict(self, p_NC: np.ndarray) -> np.ndarray:
        """The model's probabilities, renormalised over `classes`, [N, M]; uniform where all of them are 0."""
        p_NM = p_NC[:, self.model_index_M].astype(np.float64)
        total_N1 = p_NM.sum(axis=1, keepdims=True)
        shared_NM = np.full_like(p_NM, 1 / p_NM.shape[1])
        np.divide(p_NM, total_N1, out=shared_NM, where=total_N1 > 0)
        return shared_NM


def match_classes(
    set_classes: Sequence[str], model_classes: Sequence[str], renamed: Mapping[str, str], shared: bool
) -> ClassMatching:
    """Matches each class of the set with the model's class of the same name, or of the name given in `renamed`.

    With `shared`, metrics cover only the classes that both have; otherwise, all classes of the model.

    Raises:
        DataError: `renamed` names a class that does not exist.
    """
    _check(set_classes, model_classes, renamed)
    names = [renamed.get(name, name) for name in set_classes]
    chosen = [c for c, name in enumerate(model_classes) if name in names or not shared]
    classes = tuple(model_classes[c] for c in chosen)
    index_S = np.array([classes.index(name) if name in classes else NONE for name in names])
    return ClassMatching(classes, index_S, np.array(chosen, np.int64))


def _check(set_classes: Sequence[str], model_classes: Sequence[str], renamed: Mapping[str, str]) -> None:
    for old, new in renamed.items():
        if old not in set_classes:
            raise DataError(f"--map {old}={new}: the set has no class '{old}'{nearest(old, set_classes)}")
        if new not in model_classes:
            raise DataError(f"--map {old}={new}: the model has no class '{new}'{nearest(new, model_classes)}")
