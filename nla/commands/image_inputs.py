"""Images given to a command: finding them, predicting batch by batch, and reporting those that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nla.console import complain
from nla.data.images import Pixels, decode, fit, read_image_file
from nla.data.parallel import map_in_order
from nla.data.problems import Problem, first_lines
from nla.data.sources.image_files import SUFFIXES, image_names
from nla.data.sources.unread_files import unread
from nla.errors import DataError
from nla.limits import ImageLimits
from nla.models.classifier import ImageSpec
from nla.serving.predictor import BATCH, Prediction, Predictor
from nla.text import shown

S = TypeVar("S", bound="StoredImage")


def find_images(paths: Iterable[str], films: Collection[str] = ()) -> list[str]:
    """Files as given, and all images below folders, except hidden ones: sorted, each once.

    Links to files are followed; links to folders are not, unless they are named themselves.

    Args:
        paths: images and folders.
        films: what is read below the folders besides images.

    Raises:
        DataError: a path does not exist, or there is no image in any, and no film.
    """
    paths = list(paths)
    missing = [path for path in paths if not Path(path).exists()]
    if missing:
        raise DataError(
            f"{', '.join(map(shown, missing))}: no such file or folder. Name images, or folders that contain some."
        )
    found = sorted({name for path in paths for name in _images(path)})
    if not found and not films:
        what = f"{', '.join(map(shown, paths))}: no images found. Name a folder with {' '.join(SUFFIXES)} files."
        raise DataError("\n  ".join([what, *unread_below(paths)]))
    return found


def unread_below(paths: Iterable[str], films: Collection[str] = ()) -> list[str]:
    """Lines on the files below folders that `find_images` does not take, and that are none of the `films`."""
    return [line for path in paths if Path(path).is_dir() for line in _unread(path, films)]


def _unread(folder: str, films: Collection[str]) -> list[str]:
    own = (name for name in films if Path(name).is_relative_to(folder))
    read = {Path(name).relative_to(folder).as_posix() for name in (*_images(folder), *own)}
    return [f"{shown(folder)}: {line}" for line in unread(Path(folder), read)]


def _images(path: str) -> Iterator[str]:
    if not Path(path).is_dir():
        yield str(Path(path))
        return
    for folder in folders_below(path):
        yield from (str(folder / name) for name in image_names(folder))


def folders_below(path: str) -> Iterator[Path]:
    """The folder `path` and all folders below it, except hidden ones and links."""
    for folder, below, _ in os.walk(path):
        below[:] = [name for name in below if not name.startswith(".")]
        yield Path(folder)


def report_unreadable(problems: Sequence[Problem]) -> None:
    """Lists the unreadable images on standard error; prints nothing if there are none."""
    if problems:
        complain(f"unreadable images, left out: {len(problems):,}\n{_listed(problems)}")


def report_unread(lines: Sequence[str]) -> None:
    """Prints on standard error which files were not read, as `unread` says it."""
    for line in lines:
        complain(f"warning: {line}")


def none_readable_error(problems: Sequence[Problem]) -> DataError:
    """The error for the case that no image could be read."""
    return DataError(f"no image can be read. Provide intact PNG, JPEG, BMP or WebP files.\n{_listed(problems)}")


def _listed(problems: Sequence[Problem]) -> str:
    return "\n".join(first_lines(problems))


@dataclass(frozen=True)
class StoredImage:
    """An encoded image, in a file or in memory."""

    path: str
    """Name shown to the user."""
    content: Path | bytes

    def read(self, limits: ImageLimits) -> bytes:
        return self.content if isinstance(self.content, bytes) else read_image_file(self.content, limits)


def predict_batches(
    predictor: Predictor, stored: Iterable[S], problems: list[Problem]
) -> Iterator[tuple[list[S], Prediction]]:
    """Yields up to BATCH images at a time with their predictions, in the order of `stored`.

    A few threads read ahead. Unreadable images are left out and appended to `problems`.
    """
    spec, limits = predictor.model.image, predictor.limits
    batch: list[tuple[S, Pixels]] = []
    for image, found in map_in_order(lambda image: (image, read_image(image, spec, limits)), stored, BATCH):
        if isinstance(found, Problem):
            problems.append(found)
            continue
        batch.append((image, found))
        if len(batch) == BATCH:
            yield _predict(predictor, batch)
            batch = []
    if batch:
        yield _predict(predictor, batch)


def _predict(predictor: Predictor, batch: list[tuple[S, Pixels]]) -> tuple[list[S], Prediction]:
    images, pixels = zip(*batch, strict=True)
    return list(images), predictor.predict_fitted(predictor.stacked(pixels))


def read_image(image: StoredImage, spec: ImageSpec, limits: ImageLimits) -> Pixels | Problem:
    """The image fitted to the model's size and colour, as the predictor does itself; or why it is unreadable."""
    found = read_photo(image, limits)
    return found if isinstance(found, Problem) else fit(found, spec.size, spec.color)


def read_photo(image: StoredImage, limits: ImageLimits) -> Pixels | Problem:
    """The image, decoded and upright; or why it is unreadable."""
    try:
        return decode(image.read(limits), limits)
    except OSError as error:
        return Problem(image.path, None, f"cannot be read: {error.strerror}")
    except DataError as error:
        return Problem(image.path, None, str(error))
