"""Reads labelled image files into record batches of FACES, with a few threads, in order, in bounded memory.

Thread pool that works ahead, and returns results in order.

Makes a record batch of FACES from Python sequences.

Reads `faces.csv`, with one image per line, as written by hand or by a spreadsheet.
"""

from __future__ import annotations

import csv
import posixpath
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from nla.data.images import decode, pixel_hash
from nla.data.schema import FACES, IMAGE_TYPE
from nla.data.sources.base import DOCS, SPLIT_NAMES, Findings, Problem
from nla.errors import DataError
from nla.hardware import cores

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


T = TypeVar("T")
R = TypeVar("R")

THREADS = min(8, cores())
"""Reading, decoding and hashing release the GIL; with more than 8 threads the writer becomes slower."""


def in_order(work: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """`work(item)` for each item, in the order of `items`; at most `ahead` + 1 results are held at once.

    `items` is iterated in the caller's thread, and `work` runs in the pool; exceptions of both reach the caller.
    """
    under_way: deque[Future[R]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for item in items:
                under_way.append(pool.submit(work, item))
                if len(under_way) > ahead:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def face_batch(
    row: Sequence[int] | np.ndarray,
    split: Sequence[str] | np.ndarray,
    pixels: Sequence[bytes],
    data: Sequence[bytes],
    path: Sequence[str] | np.ndarray,
    *,
    label: Sequence[int | None] | np.ndarray | None = None,
    votes: Sequence[np.ndarray | tuple[int, ...] | None] | None = None,
    posterior: Sequence[np.ndarray] | None = None,
) -> pa.RecordBatch:
    """A batch of N faces; `pixels` are their hashes, `data` their encoded images. Omitted columns are null."""
    images = pa.StructArray.from_arrays(
        [pa.array(data, pa.binary()), pa.array(path, pa.string())], fields=list(IMAGE_TYPE)
    )
    known = {"label": label, "votes": votes, "posterior": posterior}
    given = {"row": row, "split": split, "pixels": pixels, **known}
    columns = [
        images if field.name == "image" else _column(given.get(field.name), field.type, len(data)) for field in FACES
    ]
    return pa.RecordBatch.from_arrays(columns, schema=FACES)


def _column(values: Sequence[Any] | np.ndarray | None, kind: pa.DataType, size: int) -> pa.Array:
    return pa.nulls(size, kind) if values is None else pa.array(values, kind)


IMAGE, SPLIT, LABEL = "image", "split", "label"
NO_CLASS = ("unknown", "NF")
"""Vote columns for non-classes, as named in FERPlus."""
FORM = f"{IMAGE},{SPLIT},{LABEL}, or {IMAGE},{SPLIT} and a column of votes for each class, with commas between"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the list: an image and its split."""

    line: int
    """Line number, counted from 1 as in an editor."""
    position: int
    """Position among the rows, from 0."""
    image: str
    """Normalised path, relative to the list's folder."""
    split: str
    values: Mapping[str, str]
    """The other columns, by name."""


def read_list(path: Path, findings: Findings) -> tuple[list[str], list[Row]]:
    """Column names other than image and split, and the rows; bad lines become problems.

    Raises:
        DataError: the file is not CSV in UTF-8, or does not have the columns of a list.
    """
    lines = _lines(path)
    _, first = next(lines, (1, []))
    names = [name.strip() for name in first]
    _check(path, names)
    return [name for name in names if name not in (IMAGE, SPLIT)], list(_rows(path, names, lines, findings))


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row that is not blank; for a quoted cell with line breaks, the line of the row's end."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            for cells in reader:
                if any(cells):
                    yield reader.line_num, cells
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(
                f"{path}, after line {reader.line_num}: no CSV in UTF-8 ({error}): save it as such"
            ) from None


def _check(path: Path, names: Sequence[str]) -> None:
    if missing := [name for name in (IMAGE, SPLIT) if name not in names]:
        has = ", ".join(map(repr, names)) or "none"
        raise DataError(f"{path} has no column {' and '.join(missing)} (it has {has}): it needs {FORM}. {DOCS}")
    known = {name.lower(): name for name in (IMAGE, SPLIT, LABEL, *NO_CLASS)}
    for name in names:
        if not name:
            raise DataError(f"{path} has a column without a name: remove it, or name it in line 1")
        if names.count(name) > 1:
            raise DataError(f"{path} has two columns {name}: remove one")
        if (meant := known.get(name.lower(), name)) != name:
            raise DataError(f"{path} has a column {name}: write {meant} if that is meant, or call it otherwise")


def _rows(
    path: Path, names: Sequence[str], lines: Iterator[tuple[int, list[str]]], findings: Findings
) -> Iterator[Row]:
    seen: dict[str, int] = {}
    for position, (line, cells) in enumerate(lines):
        if len(cells) != len(names):
            findings.problems.append(Problem(path.name, line, f"{len(cells)} instead of {len(names)} values"))
            continue
        values = dict(zip(names, map(str.strip, cells), strict=True))
        image = posixpath.normpath(values[IMAGE])
        if wrong := _what_is_wrong(values.pop(IMAGE), image, values[SPLIT], seen):
            findings.problems.append(Problem(path.name, line, wrong))
            continue
        seen[image] = line
        yield Row(line, position, image, SPLIT_NAMES[values.pop(SPLIT).lower()], values)


def _what_is_wrong(image: str, path: str, split: str, seen: Mapping[str, int]) -> str | None:
    """Checks an image as it is written, its normalised `path`, and its split; returns what is wrong, or None."""
    if not image or "\0" in image:
        return "it names no image"
    if path.startswith(("/", "../")):
        return f"{image} is not below the folder of the list: DVC would not see it change"
    if path in seen:
        return f"{image} is listed twice, in line {seen[path]} too"
    if split.lower() not in SPLIT_NAMES:
        return f"{SPLIT} is {split!r}, not train, valid or test"
    return None
