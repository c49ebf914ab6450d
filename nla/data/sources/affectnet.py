"""AffectNet with eight expressions (Mollahosseini et al., TAC 2017): the release with .npy labels, or with CSV lists.

Its test set was never published, and results are reported on its validation set. So it becomes `test`, and `prepare`
makes a validation split from train.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa

from nla.config.data import DataConfig
from nla.data.problems import Problem
from nla.data.sources.base import Findings, first_existing, require
from nla.data.sources.csv_rows import read_rows
from nla.data.sources.image_files import Excluded, Listed, image_names, read_faces, refuse_linked
from nla.data.sources.numbering import check_numbering
from nla.data.sources.unread_files import unread
from nla.io import regular
from nla.text import shown

FOLDERS = {"train": "train_set", "test": "val_set"}
LISTS = {"train": "training.csv", "test": "validation.csv"}
PATH, EXPRESSION = "subDirectory_filePath", "expression"
LIST_COLUMNS = (
    PATH, "face_x", "face_y", "face_width", "face_height", "facial_landmarks", EXPRESSION, "valence", "arousal",
)  # fmt: skip
"""Columns of a list without a header, as validation.csv is in some releases."""
IMAGES = "Manually_Annotated_Images"
LARGEST_LABEL = 4096
"""Bytes of an .npy file that are read: a single value with its header has fewer."""
ABOVE_IMAGES = ("", "Manually_Annotated", "Manually_Annotated_compressed")  # parent folders in the various releases
NO_CLASS = {8: "labelled as none of these expressions", 9: "labelled as uncertain", 10: "labelled as no face"}


class AffectNet:
    """Reads `root` with train_set and val_set, or else training.csv, validation.csv and the images that they list."""

    name = "affectnet"
    classes: tuple[str, ...] = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
    """Classes of the labels 0 to 7."""
    votes: tuple[str, ...] = ()
    known_counts: Mapping[str, tuple[int, ...]] = {
        "train": (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750),
        "test": (500,) * 8,
    }

    def __init__(self, config: DataConfig, root: Path) -> None:
        self._root = root
        self._limits, self._max_columns = config.image_limits, config.max_columns
        self._found = Findings()
        lists = first_existing(root / "Manually_Annotated_file_lists", root)
        self._has_lists = not (root / FOLDERS["train"]).exists() and (lists / LISTS["train"]).exists()
        self._labels: dict[str, set[int | str]] = {split: set() for split in FOLDERS}
        self._listed = list(self._by_lists(lists) if self._has_lists else self._by_folders())

    def __len__(self) -> int:
        return len(self._listed)

    def batches(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Batches in the order of the lists, or of the image numbers."""
        findings.add(self._found)
        findings.notes.append("AffectNet's validation set is used as test; a validation split is made from train")
        annotate = self._decide if self._has_lists else self._annotate
        yield from read_faces(self._root, self._listed, findings, annotate, limits=self._limits)
        self._check_numbering(FOLDERS)

    def _check_numbering(self, parts: Mapping[str, str]) -> None:
        for split, part in parts.items():
            check_numbering(part, self._labels[split], 0, len(self.classes) - 1)

    def _by_folders(self) -> Iterator[Listed]:
        parts = [self._root / folder / part for folder in FOLDERS.values() for part in ("images", "annotations")]
        lists = ", ".join(LISTS.values())
        require(*parts, advice=f"Unpack AffectNet into {self._root}, or else put its {lists} and images there.")
        refuse_linked(self._root, *(part / "any" for part in parts))
        row = count()
        for split, folder in FOLDERS.items():
            names = sorted(image_names(self._root / folder / "images"), key=_number)
            self._warn(folder, names)
            for name in names:
                yield Listed(next(row), split, f"{folder}/images/{name}", label=None)

    def _warn(self, folder: str, names: Sequence[str]) -> None:
        """Warns of images of a set that are not read, and of annotations whose image is missing."""
        images = f"{folder}/images"
        reason = f"they do not lie directly in {images}"
        self._found.warnings += unread(self._root, {f"{images}/{name}" for name in names}, reason, images)
        expected = {f"{Path(name).stem}_exp.npy" for name in names}
        given = {path.name for path in (self._root / folder / "annotations").glob("[!.]*_exp.npy")}
        if alone := given - expected:
            where = f"{folder}/annotations"
            self._found.warnings.append(
                f"annotations of {where} without an image: {len(alone):,}, such as {shown(min(alone))}"
            )

    def _annotate(self, item: Listed) -> Listed | Excluded | Problem:
        """`item` with the label of its .npy file, or why there is none."""
        image = Path(item.path)
        path = image.parent.with_name("annotations") / f"{image.stem}_exp.npy"
        try:
            label = _read_label(self._root / path)
        except FileNotFoundError:
            return Problem(path.as_posix(), None, f"is missing, though {image.name} is there")
        except (ValueError, TypeError, OSError):
            return Problem(path.as_posix(), None, "does not hold a single integer")
        self._labels[item.split].add(label)
        return self._decide(replace(item, label=label, listing=path.as_posix()))

    def _by_lists(self, lists: Path) -> Iterator[Listed]:
        require(*(lists / name for name in LISTS.values()), advice=f"Put both lists of AffectNet into {lists}.")
        refuse_linked(self._root, *(lists / name for name in LISTS.values()))
        images = first_existing(*(self._root / above / IMAGES for above in ABOVE_IMAGES), self._root)
        above = images.relative_to(self._root)
        row = count()
        first: dict[str, tuple[str, int]] = {}
        for split, name in LISTS.items():
            for line, path, label in self._rows(lists / name):
                self._labels[split].add(label)
                before = first.setdefault(path, (name, line))
                if before != (name, line):
                    what = f"{path} is listed twice, in line {before[1]} of {before[0]} too"
                elif not label.isdecimal():
                    what = f"{EXPRESSION} is {label!r}, not a label from 0 to {max(NO_CLASS)}"
                else:
                    yield Listed(next(row), split, (above / path).as_posix(), int(label), name, line)
                    continue
                self._found.problems.append(Problem(name, line, what))
        self._check_numbering(LISTS)
        read = {(above / path).as_posix() for path in first}
        read |= {(lists / name).relative_to(self._root).as_posix() for name in LISTS.values()}
        self._found.warnings += unread(self._root, read, "the lists do not name them", above.as_posix())

    def _rows(self, path: Path) -> Iterator[tuple[int, str, str]]:
        """Line, image and label of each row of a list."""
        for rows in read_rows(path, (PATH, EXPRESSION), self._found, self._max_columns, LIST_COLUMNS):
            columns = (column.to_pylist() for column in rows.columns.columns)
            yield from zip(rows.line_N.tolist(), *columns, strict=True)

    def _decide(self, item: Listed) -> Listed | Excluded | Problem:
        if item.label in NO_CLASS:
            return Excluded(NO_CLASS[item.label])
        if item.label in range(len(self.classes)):
            return item
        return Problem(item.listing or item.path, item.line, f"label {item.label} is not from 0 to {max(NO_CLASS)}")


def _read_label(path: Path) -> int:
    """Reads a single number, or string of digits. Raises ValueError, TypeError or OSError for anything else."""
    with regular(path).open("rb") as file:
        content = io.BytesIO(file.read(LARGEST_LABEL))
    try:
        number = float(np.lib.format.read_array(content, allow_pickle=False).reshape(1)[0])
    except Exception as error:  # whatever NumPy meets in a damaged header: SyntaxError, TokenError, SystemError
        raise ValueError(str(error)) from None
    if not number.is_integer():
        raise ValueError(number)
    return int(number)


def _number(name: str) -> tuple[int, str]:
    """Sort key that puts 2.jpg before 10.jpg."""
    return len(Path(name).stem), name
