"""Finds the images in given files and folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from nla.data.sources.files import SUFFIXES, image_names
from nla.errors import DataError


def find_images(paths: Iterable[str]) -> list[str]:
    """Files as given, and all images below folders, except hidden ones: sorted, each once.

    Raises:
        DataError: a path does not exist, or there is no image in any.
    """
    paths = list(paths)
    missing = [path for path in paths if not Path(path).exists()]
    if missing:
        raise DataError(f"{', '.join(missing)}: no such file or folder; give images, or folders that hold some")
    found = sorted({name for path in paths for name in _images(path)})
    if not found:
        raise DataError(f"{', '.join(paths)}: there is no image in it; give a folder with {' '.join(SUFFIXES)}")
    return found


def _images(path: str) -> Iterator[str]:
    if not Path(path).is_dir():
        yield str(Path(path))
        return
    for folder, below, _ in os.walk(path):
        below[:] = [name for name in below if not name.startswith(".")]
        yield from (str(Path(folder, name)) for name in image_names(Path(folder)))
