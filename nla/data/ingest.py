"""Streams any source into faces.parquet, and reports what was found: rows, classes, duplicates, problems."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nla.config.data import OnBad
from nla.data.problems import error_lines, in_order
from nla.data.schema import FACES, SPLITS, TableInfo, with_info
from nla.data.sources.base import Findings, Source
from nla.errors import DataError
from nla.io import atomic_write
from nla.seals import seal_table
from nla.text import shown

GROUP_ROWS, GROUP_BYTES = 2048, 64 << 20  # a row group ends at either limit

# Images are compressed already, and hashes cannot be compressed.
COMPRESSION = {
    "row": "ZSTD",
    "split": "ZSTD",
    "label": "ZSTD",
    "fer2013_label": "ZSTD",
    "votes.list.element": "ZSTD",
    "posterior.list.element": "ZSTD",
    "pixels": "NONE",
    "image.bytes": "NONE",
    "image.path": "ZSTD",
}
DICTIONARY = ["split", "label", "fer2013_label", "votes.list.element"]  # columns with few distinct values

Progress = Callable[[int, int], None]


def ingest(
    source: Source,
    out: Path,
    *,
    on_bad: OnBad,
    schema: pa.Schema = FACES,
    listing: Path | None = None,
    progress: Progress | None = None,
    unit: str = "rows or files",
    key: str = "data.on_bad",
) -> dict[str, Any]:
    """Writes the faces of `source` to `out` atomically, and returns a JSON-serializable report.

    Report: source, rows, counts by split and class, unique_images, duplicates across splits, problems, warnings, notes.

    Args:
        source: source of the faces.
        out: path of the Parquet file.
        on_bad: "error" fails on bad rows; "quarantine" leaves them out.
        schema: of the batches of `source`: FACES, or all of its columns and further ones.
        listing: file that lists all problems if there are more than SHOWN; the error then shows only the first SHOWN.
        progress: called with (done, total) rows.
        unit: what can be bad, for the message.
        key: the parameter that sets `on_bad`, for the message.

    Raises:
        DataError: there is only one class, rows are bad and `on_bad` is "error", or train or test is empty. The message
            names the problems.
    """
    findings, census = Findings(), Census(source.classes)
    try:
        _check_classes(source, findings)
        with atomic_write(out) as part:
            _write(_counted(source, findings, census, progress), part, with_info(schema, _info(source)))
            _check(source, census, findings)
            if findings.problems and on_bad == "error":
                raise DataError(
                    f"{source.name}: {len(findings.problems):,} bad {unit}. Fix or remove them, or exclude them with "
                    f"{key}: quarantine."
                )
            seal_table(part)
    except DataError as error:
        raise DataError("\n".join([str(error), *error_lines(findings.problems, listing)])) from None
    return _report(source, census, findings)


def _info(source: Source) -> TableInfo:
    return TableInfo(source.name, source.classes, source.votes)


def _counted(source: Source, findings: Findings, census: Census, progress: Progress | None) -> Iterator[pa.RecordBatch]:
    """The batches of `source`, counted and checked for problems as they pass."""
    done, total = 0, len(source)
    for batch in source.batches(findings):
        census.add(batch)
        yield batch
        done += len(batch)
        if progress:
            progress(done, total)


def _write(batches: Iterable[pa.RecordBatch], path: Path, schema: pa.Schema) -> None:
    options = {"compression": COMPRESSION, "use_dictionary": DICTIONARY, "write_statistics": DICTIONARY[:2]}
    with pq.ParquetWriter(path, schema, **options) as writer:
        for group in _groups(batches):
            table = pa.Table.from_batches(group).replace_schema_metadata(schema.metadata)
            writer.write_table(table, row_group_size=len(table))


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Batches grouped into row groups; a group is never much larger than GROUP_BYTES."""
    group: list[pa.RecordBatch] = []
    for batch in batches:
        if not len(batch):  # all of its rows are bad
            continue
        group.append(batch)
        if sum(map(len, group)) >= GROUP_ROWS or sum(part.nbytes for part in group) >= GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


def _check_classes(source: Source, findings: Findings) -> None:
    if len(source.classes) < 2:
        next(iter(source.batches(findings)), None)  # finds the bad lines of a list, which can be the reason
        remedy = "Fix the bad rows or files" if findings.problems else "Add images of another class"
        classes = ", ".join(map(shown, source.classes)) or "none"
        raise DataError(f"{source.name}: expected two classes or more (got {classes}). {remedy}. See docs/datasets.md.")
    if wrong := [shown(name) for name in source.classes if shown(name) != name]:
        raise DataError(
            f"{source.name}: names of classes must be UTF-8 without control characters (got {', '.join(wrong)}). "
            "Rename them."
        )
    alike: dict[str, list[str]] = {}
    for name in source.classes:
        alike.setdefault(_appearance(name), []).append(name)
    findings.warnings += [
        f"different classes with names that look alike: {', '.join(map(ascii, names))}"
        for names in alike.values()
        if names[1:]
    ]


def _appearance(name: str) -> str:
    """`name` without what a reader overlooks: case, spaces, invisible characters, and other forms of a character."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in plain if not c.isspace() and unicodedata.category(c) != "Cf")


def _check(source: Source, census: Census, findings: Findings) -> None:
    empty = [split for split in ("train", "test") if not census.rows(split)]
    if empty:
        remedy = "Fix the bad rows or files" if findings.problems else "Add some"
        raise DataError(f"{source.name}: no good image for {' and '.join(empty)}. {remedy}. See docs/datasets.md.")


def _report(source: Source, census: Census, findings: Findings) -> dict[str, Any]:
    counts, duplicates, unique = census.counts(), census.duplicates(), census.unique_images()
    rows = sum(count["rows"] for count in counts.values())
    notes = [f"different images in {rows:,} rows: {unique:,}"] if unique < rows else []
    notes += [f"images of {pair} too, pixel for pixel: {number:,}" for pair, number in duplicates.items() if number]
    return {
        "source": source.name,
        "rows": rows,
        "counts": counts,
        "unique_images": unique,
        "duplicates": duplicates,
        "problems": [str(problem) for problem in in_order(findings.problems)],
        "warnings": [*findings.warnings, *census.differences(source.known_counts)],
        "notes": [*findings.notes, *notes],
    }


class Census:
    """Counts of FACES: call `add` with every batch, then query."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
        self._labels: dict[str, Counter[int | None]] = {split: Counter() for split in SPLITS}
        self._images: dict[str, Counter[bytes]] = {split: Counter() for split in SPLITS}

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts the rows of `batch`."""
        for split in pc.unique(batch["split"]).to_pylist():
            rows = batch.filter(pc.equal(batch["split"], split))
            self._labels[split].update(rows["label"].to_pylist())
            self._images[split].update(rows["pixels"].to_pylist())

    def rows(self, split: str) -> int:
        """Rows of `split`."""
        return self._labels[split].total()

    def unique_images(self) -> int:
        """Number of distinct images, by pixels."""
        return len(set().union(*self._images.values()))

    def counts(self) -> dict[str, dict[str, Any]]:
        """Number of rows per split and, for labelled splits, per class."""
        return {split: {"rows": self.rows(split)} | self._by_class(split) for split in SPLITS}

    def duplicates(self) -> dict[str, int]:
        """{"valid in train": number of rows of valid that are pixel-identical to one of train, ...}"""
        return {
            f"{later} in {earlier}": sum(
                times for image, times in self._images[later].items() if image in self._images[earlier]
            )
            for earlier, later in combinations(SPLITS, 2)
        }

    def differences(self, known: Mapping[str, Sequence[int]]) -> Iterator[str]:
        """A line for each class whose number of rows differs from the published one."""
        for split, published in known.items():
            for label, (name, expected) in enumerate(zip(self._classes, published, strict=True)):
                if (found := self._labels[split][label]) != expected:
                    yield f"{split}: {found:,} rows of {name}, published: {expected:,}"

    def _by_class(self, split: str) -> dict[str, dict[str, int]]:
        counts = self._labels[split]
        if counts.keys() <= {None}:
            return {}
        return {"classes": {name: counts[label] for label, name in enumerate(self._classes)}}
