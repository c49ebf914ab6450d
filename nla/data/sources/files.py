"""Labelled image files -> record batches of FACES, read by a few threads, in order, in bounded memory."""

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
BATCH_ROWS, BATCH_BYTES = 256, 32 << 20  # a batch ends at either
AHEAD = 32  # files read before they are asked for


@dataclass(frozen=True, slots=True)
class Listed:
    """An image that is said to be there."""

    row: int
    split: str
    path: str
    """Relative to the source's folder, with slashes."""
    label: int | None
    """None where votes, or what `annotate` finds, stand in its place."""
    listing: str | None = None
    """The file that says so, if any: what is to be mended where it is wrong."""
    line: int | None = None
    """Of a listing with a line an image."""
    votes: tuple[int, ...] | None = None
    """Counts, one for each of the source's votes."""


@dataclass(frozen=True)
class LeftOut:
    """An image that is no face of any class, and is not meant to be."""

    why: str


@dataclass(frozen=True)
class Read:
    """An image that was read and can be decoded."""

    listed: Listed
    data: bytes
    pixels: bytes


def read_faces(
    root: Path,
    listed: Iterable[Listed],
    findings: Findings,
    annotate: Callable[[Listed], Listed | LeftOut | Problem] | None = None,
) -> Iterator[pa.RecordBatch]:
    """The images of `listed`, bytes as they are, each decoded once to see that it can be.

    `annotate` runs beside the reading and may fill in the label, leave the image out, or find a problem.
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
    """Names of the images right in `folder`, sorted; hidden files are none."""
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
