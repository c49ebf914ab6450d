"""Arrow schemas of the two tables, `faces` (as ingested) and `samples` (ready to train), and the facts stored in them.

The image column is the struct {bytes, path} of Hugging Face `datasets`, with its schema metadata, so that `datasets`,
DuckDB and pandas open both tables directly. What a stage decided about the rows is in the metadata too, as a
`TableInfo`: later stages read it there, and never from params.yaml, which may have changed since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from nla.data.table_values import is_class, is_counts, is_distribution, is_one_of, is_unique, require
from nla.errors import DataError
from nla.io import in_one_line, parse_json_as, read_columns, regular

REMAKE = "Remove the file and run `dvc repro`."
INGEST = "Run `dvc repro -f ingest`."
SPLITS = ("train", "valid", "test")
TRAIN, VALID, TEST = range(len(SPLITS))
OUT = -1
"""In place of the index of a split, for faces that are left out."""
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

FACES = pa.schema(
    [
        ("row", pa.int64()),  # position in the source, from 0
        ("split", pa.string()),  # train, valid or test
        ("label", pa.int8()),  # the source's own label; null if it has only votes
        ("fer2013_label", pa.int8()),  # FER2013's own label of a face that FERPlus relabels; null for other sources
        ("votes", pa.list_(pa.int16())),  # counts, one per name in TableInfo.votes; null without annotators
        ("posterior", pa.list_(pa.float32())),  # true P(class | image); null for real faces
        ("pixels", pa.binary(16)),  # BLAKE2b-128 of the decoded pixels and their shape: equal = identical image
        ("image", IMAGE_TYPE),  # original bytes, and their origin
    ]
)

SAMPLES = pa.schema(
    [
        ("row", pa.int64()),  # row in `faces`
        ("label", pa.int8()),  # label given to training
        ("clean_label", pa.int8()),  # before noise
        ("is_flipped", pa.bool_()),  # label != clean_label, by seeded noise or in FER2013's labels
        ("is_corrected", pa.bool_()),  # label or target is from data.corrections
        ("target", pa.list_(pa.float32())),  # distribution [C] to learn instead of the label; null means the label
        (
            "votes",
            pa.list_(pa.float32()),
        ),  # annotators' distribution [C]; null: none, or a flipped row of train
        ("posterior", pa.list_(pa.float32())),  # true P(class | image) [C]; null for real faces
        ("image", IMAGE_TYPE),  # at training size, losslessly encoded
    ]
)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names or len(set(names)) < len(names):
        raise ValueError("must have a name of its own for each class")
    return names


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Noise(_Facts):
    """Synthetic label noise; the fields of `data.noise`."""

    kind: str
    rate: float
    exact: bool
    mapping: dict[str, str]
    valid: bool = False


class Preparation(_Facts):
    """How the `prepare` stage made the samples: the effective parameters of the `data` section, by their names there.

    The types are not narrowed to the valid names, which nla/config/data.py knows: training reads tables through this
    module, and must not go stale when a data set or a kind of noise is added.
    """

    image_size: int
    color: str
    label_rule: str
    contempt: bool
    valid_fraction: float
    drop_leaks: bool
    seed: int
    imbalance_factor: float | None
    train_rows: int | None = None
    noise: Noise
    corrections: str | None = None
    """SHA-256 of the file that was applied; None if it has no lines."""
    correct_test: bool = False


class Corrected(_Facts):
    """Rows of a split by what `data.corrections` did with them."""

    relabel: int = 0
    distribution: int = 0
    drop: int = 0
    keep: int = 0
    """Confirmed as they are."""

    @property
    def changed(self) -> int:
        """Rows with another label, with a distribution, or left out."""
        return self.relabel + self.distribution + self.drop


class ImageFacts(BaseModel):
    """The part of `TableInfo.extra` that describes the images of SAMPLES."""

    model_config = ConfigDict(frozen=True, strict=True)

    image_size: Annotated[int, Field(ge=1, le=512)]
    channels: Literal[1, 3]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class TableInfo:
    """Facts stored in a table's schema metadata."""

    source: str
    classes: Annotated[tuple[str, ...], AfterValidator(_distinct)]
    votes: tuple[str, ...] = ()
    """Names of the vote counts: the classes first, then non-classes (`unknown`, `NF`)."""
    extra: dict[str, Any] = field(default_factory=dict)
    """JSON-serializable facts about this table that a model's card repeats, such as the number of flipped labels."""
    preparation: Preparation | None = None
    """Of samples; None for faces."""

    @property
    def corrections(self) -> str | None:
        """SHA-256 of the file of corrections that was applied; None without any."""
        return self.preparation.corrections if self.preparation else None


def with_info(schema: pa.Schema, info: TableInfo) -> pa.Schema:
    """`schema` with `info` in its metadata and, if it has images, Hugging Face's description of that column."""
    facts = {"nla": TypeAdapter(TableInfo).dump_json(info)}
    if "image" in schema.names:
        facts["huggingface"] = b'{"info": {"features": {"image": {"_type": "Image"}}}}'
    return schema.with_metadata(facts)


def read_info(path: Path) -> TableInfo:
    """Reads the TableInfo of a Parquet file. Raises DataError if it is missing, or not written by this package."""
    return parse_json_as(_metadata(path), TableInfo, f"{path}: metadata", REMAKE)


def read_image_facts(path: Path) -> ImageFacts:
    """Reads size and channels of the images of a table of SAMPLES. Raises DataError as `read_info` does."""

    class Info(BaseModel):
        extra: ImageFacts

    return parse_json_as(_metadata(path), Info, f"{path}: metadata", REMAKE).extra


def corrected(path: Path) -> Corrected:
    """What corrections did in a table of SAMPLES. Raises DataError as `read_info` does."""

    class Extra(BaseModel):
        corrected: Corrected = Corrected()

    class Info(BaseModel):
        extra: Extra

    return parse_json_as(_metadata(path), Info, f"{path}: metadata", REMAKE).extra.corrected


def read_samples(path: Path, columns: Sequence[str]) -> tuple[TableInfo, pa.Table]:
    """Reads `columns` of a table of SAMPLES, with labels that are numbers of its classes.

    Raises:
        DataError: the table is missing or damaged, or a column is missing or has a value that it cannot have.
    """
    info = read_info(path)
    _check_image(path)
    schema = pa.schema([SAMPLES.field(name) for name in columns])
    table = read_columns(path, schema, path, REMAKE, nullable=("target", "votes", "posterior"))
    width = len(info.classes)
    checks = [is_class(table, name, width) for name in ("label", "clean_label") if name in columns]
    checks += [is_distribution(table, name, width) for name in ("target", "votes", "posterior") if name in columns]
    require(path, table, checks, REMAKE)
    return info, table


def read_faces(path: Path) -> tuple[TableInfo, pa.Table]:
    """Reads a table of FACES but for its images, with values that a source can have.

    Raises:
        DataError: the table is missing or damaged, or a column is missing or has a value that it cannot have.
    """
    info = read_info(path)
    if info.votes and info.votes[: len(info.classes)] != info.classes:
        raise DataError(f"{path}: metadata: votes: must begin with the classes (got {info.votes}). {INGEST}")
    _check_image(path)
    schema = pa.schema([field for field in FACES if field.name != "image"])
    table = read_columns(path, schema, path, REMAKE, nullable=("label", "fer2013_label", "votes", "posterior"))
    width = len(info.classes)
    checks = [
        is_unique(table, "row"),
        is_one_of(table, "split", SPLITS),
        is_class(table, "label", width),
        is_class(table, "fer2013_label", width),
        is_counts(table, "votes", len(info.votes)),
        is_distribution(table, "posterior", width),
    ]
    require(path, table, checks, INGEST)
    return info, table


def _check_image(path: Path) -> None:
    """Raises DataError if the table has no column of images, which is not read as a whole."""
    schema = _read_schema(path)
    found = schema.field("image").type if "image" in schema.names else None
    if found != IMAGE_TYPE:
        raise DataError(f"{path}: column image: must be {IMAGE_TYPE} (got {found}). {REMAKE}")


def _metadata(path: Path) -> bytes:
    """The JSON of a TableInfo in the metadata of a Parquet file."""
    metadata = _read_schema(path).metadata or {}
    if b"nla" not in metadata:
        raise DataError(f"{path} was not written by this pipeline. {REMAKE}")
    return bytes(metadata[b"nla"])


def _read_schema(path: Path) -> pa.Schema:
    """The schema of a Parquet file. Raises DataError if it is missing or damaged."""
    regular(path)
    try:
        return pq.read_schema(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing. Run `dvc repro`.") from None
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise DataError(f"{path} is not a Parquet file ({in_one_line(error)}). {REMAKE}") from None


def dense(column: pa.ChunkedArray, width: int, dtype: Any, null: float) -> np.ndarray:
    """Converts a list column to an array [N, width], with rows filled with `null` where the list is null.

    Raises:
        DataError: a list has another length.
    """
    array = column.combine_chunks()
    given_N = array.is_valid().to_numpy(zero_copy_only=False)
    lists = array.drop_null()
    length = lists.value_lengths().to_numpy(zero_copy_only=False)
    if (length != width).any():
        raise DataError(f"expected {width} values, got {length[length != width][0]}. {INGEST}")
    rows = np.full((len(array), width), null, dtype)
    rows[given_N] = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), width)
    return rows


def distributions(column: pa.ChunkedArray, info: TableInfo) -> np.ndarray | None:
    """A list column over the classes as float32 [N, C] with NaN rows for nulls; None if all are null."""
    if column.null_count == len(column):
        return None
    return dense(column, len(info.classes), np.float32, np.nan)


def targets(table: pa.Table, info: TableInfo) -> np.ndarray | None:
    """What is learnt from the columns `label` and `target` of SAMPLES, float32 [N, C]; None if only labels are."""
    target_NC = distributions(table["target"], info)
    if target_NC is not None:
        without = np.isnan(target_NC[:, 0])
        target_NC[without] = np.eye(len(info.classes), dtype=np.float32)[table["label"].to_numpy()[without]]
    return target_NC


def nested(value_NC: np.ndarray, given_N: np.ndarray) -> pa.ListArray:
    """Converts an array [N, C] to a list<float> column, null where `given_N` [N] is False: the inverse of `dense`."""
    width = value_NC.shape[1]
    offsets = np.concatenate(([0], np.cumsum(np.where(given_N, width, 0)))).astype(np.int32)
    values = pa.array(value_NC[given_N].ravel(), pa.float32())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~given_N))
