"""Reads labelled image files into record batches of FACES, with a few threads, in order, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from nla.data.images import decode, pixel_hash
from nla.data.sources.base import Findings, Problem
from nla.data.sources.batch import face_batch
from nla.data.sources.pool import in_order
from nla.errors import DataError

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
    """None if votes, or the result of `annotate`, take its place."""
    listing: str | None = None
    """The file that lists it, if any: the one to fix if an entry is wrong."""
    line: int | None = None
    """Line number in a listing that has one line per image."""
    votes: tuple[int, ...] | None = None
    """Vote counts, one per name in the source's `votes`."""


@dataclass(frozen=True)
class LeftOut:
    """An image left out on purpose, because it shows no face of any class."""

    why: str


@dataclass(frozen=True)
class Read:
    """An image that was read, and can be decoded."""

    listed: Listed
    data: bytes
    pixels: bytes


def read_faces(
    root: Path,
    listed: Iterable[Listed],
    findings: Findings,
    annotate: Callable[[Listed], Listed | LeftOut | Problem] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yields the images of `listed` with their original bytes, each decoded once as a check.

    `annotate` runs in the reading threads, and can set the label, leave the image out, or report a problem.
    """
    left_out: Counter[str] = Counter()
    batch: list[Read] = []
    for result in in_order(lambda item: _read(root, annotate(item) if annotate else item), listed, AHEAD):
        if isinstance(result, Problem):
            findings.problems.append(result)
        elif isinstance(result, LeftOut):
            left_out[result.why] += 1
        else:
            batch.append(result)
            if len(batch) == BATCH_ROWS or sum(len(face.data) for face in batch) >= BATCH_BYTES:
                yield _as_batch(batch)
                batch = []
    if batch:
        yield _as_batch(batch)
    findings.notes += [f"images left out, {why}: {count:,}" for why, count in sorted(left_out.items())]


def image_names(folder: Path) -> list[str]:
    """Sorted names of the images directly in `folder`, without hidden files."""
    return sorted(
        file.name for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )


def _read(root: Path, item: Listed | LeftOut | Problem) -> Read | LeftOut | Problem:
    if not isinstance(item, Listed):
        return item
    try:
        data = (root / item.path).read_bytes()
        return Read(item, data, pixel_hash(decode(data)))
    except FileNotFoundError:
        return Problem(item.listing or item.path, item.line, f"{item.path} is listed but missing")
    except OSError as error:
        return Problem(item.path, None, f"cannot be read: {error.strerror}")
    except DataError as error:
        return Problem(item.path, None, str(error))


def _as_batch(faces: list[Read]) -> pa.RecordBatch:
    return face_batch(
        row=[face.listed.row for face in faces],
        split=[face.listed.split for face in faces],
        label=[face.listed.label for face in faces],
        pixels=[face.pixels for face in faces],
        data=[face.data for face in faces],
        path=[face.listed.path for face in faces],
        votes=[face.listed.votes for face in faces],
    )
