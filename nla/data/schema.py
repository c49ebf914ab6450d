"""Converts between Arrow list columns and dense arrays; a null is a row filled with one value.

Arrow schemas of the two tables: `faces` (as ingested) and `samples` (ready to train).

The image column is the struct {bytes, path} of Hugging Face `datasets`, with its schema metadata, so that `datasets`,
DuckDB and pandas open both tables directly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nla.errors import DataError


def dense(column: pa.ChunkedArray, width: int, dtype: Any, null: float) -> np.ndarray:
    """List column -> [N, width]; null rows are filled with `null`.

    Raises:
        DataError: a list has another length.
    """
    array = column.combine_chunks()
    given_N = array.is_valid().to_numpy(zero_copy_only=False)
    lists = array.drop_null()
    length = lists.value_lengths().to_numpy(zero_copy_only=False)
    if (length != width).any():
        raise DataError(
            f"a list of {length[length != width][0]} values where {width} are due: run `dvc repro -f ingest`"
        )
    rows = np.full((len(array), width), null, dtype)
    rows[given_N] = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), width)
    return rows


def nested(value_NC: np.ndarray, given_N: np.ndarray) -> pa.ListArray:
    """[N, C] -> list<float> column, null where `given_N` [N] is False."""
    width = value_NC.shape[1]
    offsets = np.concatenate(([0], np.cumsum(np.where(given_N, width, 0)))).astype(np.int32)
    values = pa.array(value_NC[given_N].ravel(), pa.float32())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~given_N))


SPLITS = ("train", "valid", "test")
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

FACES = pa.schema(
    [
        ("row", pa.int64()),  # position in the source, from 0
        ("split", pa.string()),  # train, valid or test
        ("label", pa.int8()),  # the source's own label; null if it has only votes
        ("votes", pa.list_(pa.int16())),  # counts, one per name in TableInfo.votes; null without annotators
        ("posterior", pa.list_(pa.float32())),  # true P(class | image); null for real faces
        ("pixels", pa.binary(16)),  # BLAKE2b-128 of the decoded pixels and their shape: equal = identical image
        ("image", IMAGE),  # original bytes, and their origin
    ]
)

SAMPLES = pa.schema(
    [
        ("row", pa.int64()),  # row in `faces`
        ("label", pa.int8()),  # label given to training
        ("clean_label", pa.int8()),  # before noise
        ("is_flipped", pa.bool_()),  # label != clean_label by seeded noise
        ("target", pa.list_(pa.float32())),  # distribution [C] to learn instead of the label; null means the label
        ("votes", pa.list_(pa.float32())),  # annotators' distribution [C]; null: none, or withheld from a flipped row
        ("posterior", pa.list_(pa.float32())),  # true P(class | image) [C]; null for real faces
        ("image", IMAGE),  # at training size, losslessly encoded
    ]
)


@dataclass(frozen=True)
class TableInfo:
    """Facts stored in a table's schema metadata."""

    source: str
    classes: tuple[str, ...]
    votes: tuple[str, ...] = ()
    """Names of the vote counts: the classes first, then non-classes (`unknown`, `NF`)."""
    extra: Mapping[str, Any] | None = None
    """JSON-able facts that later stages need, such as the image size of `samples`."""


def with_info(schema: pa.Schema, info: TableInfo) -> pa.Schema:
    """`schema` with `info` and Hugging Face's feature description in its metadata."""
    features = {"info": {"features": {"image": {"_type": "Image"}}}}
    facts = {"source": info.source, "classes": info.classes, "votes": info.votes, "extra": dict(info.extra or {})}
    return schema.with_metadata({"nla": json.dumps(facts), "huggingface": json.dumps(features)})


def read_info(path: Path) -> TableInfo:
    """Reads the TableInfo of a Parquet file. Raises DataError if it is missing, or not written by this package."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run `dvc repro`") from None
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is no Parquet file ({error}): remove it and run `dvc repro`") from None
    if b"nla" not in metadata:
        raise DataError(f"{path} was not written by this pipeline: remove it and run `dvc repro`")
    facts = json.loads(metadata[b"nla"])
    return TableInfo(facts["source"], tuple(facts["classes"]), tuple(facts["votes"]), facts["extra"])
