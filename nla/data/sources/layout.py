"""Checks that a source's folder is complete; the error says where to get the files."""

from __future__ import annotations

from pathlib import Path

from nla.errors import DataError

MOST_CLASSES = 127  # labels are int8
SPLIT_NAMES = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
"""Common names of splits -> their names here."""
DOCS = "docs/datasets.md shows the layout and says where to get the files."


def require(*paths: Path, advice: str) -> None:
    """Raises DataError naming every one of `paths` that is missing, with `advice` on how to get it."""
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise DataError("\n".join([*(f"{path} is missing" for path in missing), f"{advice} {DOCS}"]))


def first_of(*paths: Path) -> Path:
    """The first of `paths` that exists; the first one if none does."""
    return next((path for path in paths if path.exists()), paths[0])
