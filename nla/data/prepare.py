"""Turns faces.parquet into train, valid and test.parquet: first the plan, then the images in one stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nla.config.data import INGEST_KEYS, DataConfig
from nla.data.corrections import Corrections
from nla.data.image_header import PNG
from nla.data.images import decode, encode_png, fit
from nla.data.sample_plan import SamplePlan, plan_samples
from nla.data.schema import INGEST, SAMPLES, SPLITS, TRAIN, VALID, Preparation, TableInfo, nested, with_info
from nla.errors import DataError
from nla.hardware import cores
from nla.io import naming, read_batches
from nla.limits import ImageLimits
from nla.seals import seal_table

GROUP_ROWS = 4096
"""Rows per row group, about 6 MiB of 48x48 grey PNG, which one worker reads at once."""
GROUP_BYTES = 64 * 2**20
"""Bytes of images at which a row group is closed earlier."""
BATCH_ROWS = 512
"""Faces in memory at once, besides the row groups being filled."""

Progress = Callable[[int, int], None]


def prepare(
    faces: Path,
    out: Path,
    config: DataConfig,
    progress: Progress | None = None,
    *,
    corrections: Corrections | None = None,
    listing: Path | None = None,
) -> dict[str, Any]:
    """Writes the samples that params.yaml asks for, as `write_samples`, and returns a JSON-serializable report.

    Corrections are those that are given, not those of the file that `config` names; `listing` lists their bad lines if
    there are many. Raises what plan_samples raises.
    """
    plan = plan_samples(faces, config, corrections, listing)
    content = config.model_dump(exclude=INGEST_KEYS) | {"corrections": plan.corrections}
    write_samples(faces, out, plan, Preparation.model_validate(content), config.image_limits, progress)
    return plan.report


def write_samples(
    faces: Path,
    out: Path,
    plan: SamplePlan,
    made: Preparation,
    limits: ImageLimits,
    progress: Progress | None = None,
) -> None:
    """Writes train.parquet, valid.parquet and test.parquet into `out`.

    Samples keep the order of the faces. A PNG of the right size and colour keeps its bytes; any other image is resized
    and encoded losslessly. A flipped row of train has no votes or posterior, which would reveal its true class, and in
    its target the shares of the true and of the given class have changed places. No file appears before all three are
    complete.

    Args:
        faces: table of FACES, or one with more columns.
        out: folder of the three tables.
        plan: split and labels of each face.
        made: how the plan was made, and the size and colour of the samples; recorded in the tables.
        limits: largest image that is decoded.
        progress: called with (done, total) faces.
    """
    encoder = _Encoder(faces, made.image_size, made.color, limits)
    out.mkdir(parents=True, exist_ok=True)
    unfinished = [out / f".{split}.parquet.part" for split in SPLITS]
    try:
        with ExitStack() as stack:
            writers = [
                stack.enter_context(_GroupWriter(path, _schema(plan, made, s))) for s, path in enumerate(unfinished)
            ]
            for done in _stream(faces, plan, encoder, writers):
                if progress:
                    progress(done, len(plan.split_N))
        for path in unfinished:
            with naming(path):
                seal_table(path)
        for split, path in zip(SPLITS, unfinished, strict=True):
            path.replace(out / f"{split}.parquet")
    finally:
        for path in unfinished:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Encoder:
    """Size, colour and encoding of the samples' images."""

    table: Path
    """The images are from it."""
    image_size: int
    color: str
    limits: ImageLimits

    def fitted(self, data: bytes | None, row: int) -> bytes:
        """The image in the size and colour of the samples; `data` itself if it has both.

        Raises:
            DataError: it cannot be decoded; the message names the table and the row, from 0.
        """
        try:
            pixels = decode(data or b"", self.limits)
        except DataError as error:
            raise DataError(f"{self.table}: row {row}: image: {error}. {INGEST}") from None
        if data and self._fits(data):
            return data
        return encode_png(fit(pixels, self.image_size, "grey" if self.color == "grey" else "rgb"))

    def _fits(self, data: bytes) -> bool:
        """Whether a PNG header (IHDR: width, height, depth, colour type 0 grey or 2 RGB) has the right size, colour."""
        side = self.image_size.to_bytes(4, "big")
        return data.startswith(PNG) and data[16:26] == side + side + bytes((8, 0 if self.color == "grey" else 2))


class _GroupWriter:
    """Collects tables and writes them as row groups of GROUP_ROWS or about GROUP_BYTES, whichever comes first."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        with naming(path):  # it writes the first bytes
            self._writer = pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False)
        self._waiting: list[pa.Table] = []

    def __enter__(self) -> _GroupWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with naming(self._path), self._writer:
            self._flush(0)

    def add(self, table: pa.Table) -> None:
        self._waiting.append(table)
        rows, size = (sum(getattr(table, what) for table in self._waiting) for what in ("num_rows", "nbytes"))
        if rows >= GROUP_ROWS or size >= GROUP_BYTES:
            self._flush(rows % GROUP_ROWS if size < GROUP_BYTES else 0)

    def _flush(self, left: int) -> None:
        """Writes the collected rows except for the last `left`."""
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        with naming(self._path):
            self._writer.write_table(table.slice(0, table.num_rows - left), row_group_size=GROUP_ROWS)
        self._waiting = [table.slice(table.num_rows - left)] if left else []


def _schema(plan: SamplePlan, made: Preparation, split: int) -> pa.Schema:
    noise = plan.report["noise"] | ({"flipped": plan.report["noise"]["flipped_in_valid"]} if split == VALID else {})
    is_noisy = split == TRAIN or (split == VALID and made.noise.valid)
    facts = {
        "split": SPLITS[split],
        "image_size": made.image_size,
        "channels": 1 if made.color == "grey" else 3,
        "label_rule": made.label_rule,
        "noise": {key: noise[key] for key in ("kind", "rate", "exact", "flipped")} if is_noisy else None,
        "faces_rows": len(plan.split_N),
    }
    if plan.corrected:
        facts["corrected"] = plan.corrected[SPLITS[split]].model_dump()
    votes = plan.classes if plan.info.votes else ()
    return with_info(SAMPLES, TableInfo(plan.info.source, plan.classes, votes, facts, made))


def _stream(faces: Path, plan: SamplePlan, encoder: _Encoder, writers: list[_GroupWriter]) -> Iterator[int]:
    """Sends each face to its split's writer; yields the number of faces read so far."""
    start = 0
    with ThreadPoolExecutor(cores()) as pool:
        fit_all = partial(pool.map, encoder.fitted)
        for batch in read_batches(faces, ["row", "image"], BATCH_ROWS, INGEST):
            split_B = plan.split_N[start : start + len(batch)]
            for split, writer in enumerate(writers):
                inside = np.flatnonzero(split_B == split)
                if inside.size:
                    writer.add(_samples(batch.take(pa.array(inside)), start + inside, plan, fit_all))
            start += len(batch)
            yield start


def _samples(
    batch: pa.RecordBatch,
    index: np.ndarray,
    plan: SamplePlan,
    fit_all: Callable[[list[bytes | None], list[int]], Iterator[bytes]],
) -> pa.Table:
    """Rows of SAMPLES for the faces at `index` of the plan; `batch` holds their rows and images.

    `fit_all` brings encoded images, with their rows, to the size and colour of the samples.
    """
    label, clean = plan.label_N[index], plan.clean_N[index]
    is_open = (label == clean) | (plan.split_N[index] != TRAIN)
    votes_NC, target_NC, posterior_NC = plan.votes_NC[index], plan.target_NC[index], plan.posterior_NC[index]
    image = batch["image"]
    pixels = list(fit_all(image.field("bytes").to_pylist(), index.tolist()))
    columns = {
        "row": batch["row"],
        "label": label,
        "clean_label": clean,
        "is_flipped": label != clean,
        "is_corrected": plan.is_corrected_N[index],
        "target": nested(target_NC, ~np.isnan(target_NC[:, 0])),
        "votes": nested(votes_NC, is_open & ~np.isnan(votes_NC[:, 0])),
        "posterior": nested(posterior_NC, is_open & ~np.isnan(posterior_NC[:, 0])),
        "image": pa.StructArray.from_arrays([pa.array(pixels, pa.binary()), image.field("path")], ["bytes", "path"]),
    }
    return pa.table(columns, schema=SAMPLES)
