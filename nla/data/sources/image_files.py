"""Reads listed image files into record batches of FACES: a few threads, in order, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import pyarrow as pa

from nla.data.images import decode, pixel_hash, read_image_file
from nla.data.parallel import map_in_order
from nla.data.problems import Problem
from nla.data.sources.base import Findings, face_batch
from nla.errors import DataError
from nla.limits import ImageLimits
from nla.text import is_utf8

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
BATCH_ROWS, BATCH_BYTES = 256, 32 << 20  # a batch ends at either limit
AHEAD = 32  # files read ahead


@dataclass(frozen=True, slots=True)
class Listed:
    """An image listed by a source."""

    row: int
    split: str
    path: str
    """Relative to the source's folder, with slashes."""
    label: int | None
    """None if votes, or the result of `annotate`, replace it."""
    listing: str | None = None
    """The file that lists it, if any: the one to fix if an entry is wrong."""
    line: int | None = None
    """Line number in a listing that has one line per image."""
    votes: tuple[int, ...] | None = None
    """Vote counts, one per name in the source's `votes`."""


@dataclass(frozen=True)
class Excluded:
    """An image left out on purpose, because it shows no face of any class."""

    reason: str


class LinkedFolder(Problem):
    """A link to a folder, whose images are not read, because DVC would not see them change."""


@dataclass(frozen=True)
class _Face:
    """An image that was read, and can be decoded."""

    listed: Listed
    data: bytes
    pixels: bytes


def subfolders(folder: Path) -> list[Path]:
    """Folders directly in `folder`, sorted, without hidden ones and links."""
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.is_symlink() and not path.name.startswith(".")
    )


def image_names(folder: Path) -> list[str]:
    """Sorted names of the images directly in `folder`, without hidden files."""
    return sorted(
        file.name for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )


def read_faces(
    root: Path,
    listed: Iterable[Listed],
    findings: Findings,
    annotate: Callable[[Listed], Listed | Excluded | Problem] | None = None,
    *,
    limits: ImageLimits,
) -> Iterator[pa.RecordBatch]:
    """Yields the images of `listed` with their original bytes, each decoded once as a check.

    `annotate` runs in the reading threads, and can set the label, exclude the image, or report a problem. An image
    that is larger than `limits` permit is a problem.
    """

    def read(item: Listed) -> _Face | Excluded | Problem:
        return _read(root, annotate(item) if annotate else item, limits)

    excluded: Counter[str] = Counter()
    linked: dict[LinkedFolder, None] = {}  # one for all images of a folder
    batch: list[_Face] = []
    for result in map_in_order(read, listed, AHEAD):
        if isinstance(result, LinkedFolder):
            linked[result] = None
        elif isinstance(result, Problem):
            findings.problems.append(result)
        elif isinstance(result, Excluded):
            excluded[result.reason] += 1
        else:
            batch.append(result)
            if len(batch) == BATCH_ROWS or sum(len(face.data) for face in batch) >= BATCH_BYTES:
                yield _as_batch(batch)
                batch = []
    if batch:
        yield _as_batch(batch)
    findings.problems += linked
    findings.notes += [f"images left out, {reason}: {count:,}" for reason, count in sorted(excluded.items())]


def _read(root: Path, item: Listed | Excluded | Problem, limits: ImageLimits) -> _Face | Excluded | Problem:
    if not isinstance(item, Listed):
        return item
    if link := _linked_folder(root, item.path):
        return link
    if not is_utf8(item.path):
        return Problem(item.path, None, "the name is not UTF-8. Rename it")
    try:
        data = read_image_file(root / item.path, limits)
        return _Face(item, data, pixel_hash(decode(data, limits)))
    except FileNotFoundError:
        if (root / item.path).is_symlink():
            return Problem(item.path, None, "a link to a file that is missing")
        return Problem(item.listing or item.path, item.line, f"{item.path} is listed but missing")
    except OSError as error:
        return Problem(item.path, None, f"cannot be read: {error.strerror}")
    except DataError as error:
        return Problem(item.path, None, str(error))


def refuse_linked(root: Path, *paths: Path) -> None:
    """Raises DataError if a link to a folder leads from `root` to one of the lists or annotations at `paths`."""
    for path in paths:
        if link := _linked_folder(root, path.relative_to(root).as_posix()):
            raise DataError(f"{root.as_posix()}: {link}")


def _linked_folder(root: Path, path: str) -> LinkedFolder | None:
    """The link to a folder that leads to the image `path`, if any."""
    *folders, _ = path.split("/")
    return _first_link(root, "/".join(folders))


@lru_cache
def _first_link(root: Path, folder: str) -> LinkedFolder | None:
    for above in (*reversed(PurePosixPath(folder).parents), PurePosixPath(folder)):
        if (root / above).is_symlink() and str(above) != ".":
            what = "a link to a folder, which DVC does not look into. Link the images instead, or all of the data set"
            return LinkedFolder(str(above), None, what)
    return None


def _as_batch(faces: list[_Face]) -> pa.RecordBatch:
    return face_batch(
        row=[face.listed.row for face in faces],
        split=[face.listed.split for face in faces],
        label=[face.listed.label for face in faces],
        pixels=[face.pixels for face in faces],
        data=[face.data for face in faces],
        path=[face.listed.path for face in faces],
        votes=[face.listed.votes for face in faces],
    )
