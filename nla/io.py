"""Reading and writing of files: JSON, CSV and Parquet.

Files are written atomically and with the same bytes on every system. JSON is validated when it is read back, so that a
damaged or outdated file ends in one line that names the file and the field.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import hashlib
import json
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from nla.errors import DataError, NLAError, validation_message
from nla.limits import MAX_COLUMNS
from nla.seals import check_json, check_table, seal_table, sealed_json, without_checksum
from nla.text import shortened

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
SPECIAL = {
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}
"""Tests of a file's mode -> what it is, if it is no regular file."""


def regular(path: Path) -> Path:
    """Returns `path` if it can be read to an end, as a file, or is missing, or a folder, which opening it tells.

    Raises:
        OSError: it is a pipe, a socket or a device, on which reading could wait forever; or its name holds a null.
    """
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "no file can have this name. Correct it", str(path))
    try:
        mode = path.stat().st_mode
    except OSError:
        return path
    for is_kind, kind in SPECIAL.items():
        if is_kind(mode):
            raise OSError(errno.EINVAL, f"{kind}, not a file. Put a regular file there", str(path))
    return path


def read_regular(path: Path) -> bytes:
    """Reads a whole file. Raises OSError as `regular` does."""
    return regular(path).read_bytes()


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which is renamed to it at the end, or deleted after an error.

    An error of the operating system inside the block names `path` if it names no file, as that of a full disk.

    Raises:
        OSError: `path` is a pipe or a device, which the new file would replace, or a folder; or another process is
            writing it.
    """
    if path.is_dir() or not path.name:
        raise OSError(errno.EISDIR, "a folder. Name a file", str(path))
    regular(path).parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with _only_writer(part, path), naming(path):
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """An error of the operating system inside the block names `path` if it names no file, as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def _only_writer(part: Path, path: Path) -> Iterator[None]:
    """Locks the file `part`: two writers would mix what they write. A killed process loses its lock, not its file."""
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reason = "another process is writing it. Wait for that one, or choose another name"
            raise OSError(errno.EBUSY, reason, str(path)) from None
        except OSError:  # a file system without locks
            pass
        yield


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with regular(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, record: Mapping[str, Any], *, sealed: bool = False) -> None:
    """Writes `record`, indented; `sealed` adds a checksum, for a file that only this package reads."""
    with atomic_write(path) as part:
        part.write_bytes(sealed_json(record) if sealed else json.dumps(record, indent=2).encode() + b"\n")


def read_json_as(path: Path, schema: type[T], remedy: str = "Run `dvc repro`.", error: type[NLAError] = DataError) -> T:
    """Reads a JSON file that an earlier step wrote, and compares it with its checksum, if it has one.

    Args:
        path: path of the file.
        schema: what the file must contain: a pydantic model, a dataclass, or a type such as `dict[str, str]`. Values
            must have its types exactly; fields that it does not name are ignored, unless a model forbids them.
        remedy: the next action, for the message.
        error: class of the error.

    Returns:
        The content, as an instance of `schema`.

    Raises:
        NLAError: of class `error`; the file is missing, not JSON, damaged, or does not match, such as
            "run.json: fingerprint: field required. Run `dvc repro`."
    """
    try:
        content = read_regular(path)
    except FileNotFoundError:
        raise error(f"{path}: file not found. {remedy}") from None
    record = parse_json_as(without_checksum(content), schema, path, remedy, error)  # first: it names the field
    check_json(content, path, remedy, error)
    return record


def parse_json_as(
    content: bytes, schema: type[T], source: Path | str, remedy: str, error: type[NLAError] = DataError
) -> T:
    """Like `read_json_as`, for content that was read already; `source` names it in the message."""
    try:
        return TypeAdapter(schema).validate_json(content, strict=True)
    except ValidationError as invalid:
        raise error(f"{source}: {first_problem(invalid)}. {remedy}") from None


def first_problem(invalid: ValidationError) -> str:
    """The first problem, as `FIELD: problem (got VALUE)`."""
    first = invalid.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return f"not valid JSON ({first['ctx']['error']})"
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {validation_message(first)}" if field else validation_message(first)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as CSV, with a header of all their keys in order of first appearance."""
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    # newline="" keeps line ends inside quoted cells, and stops Windows from doubling them
    with atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_columns(
    source: Path | pa.BufferReader,
    schema: pa.Schema,
    name: Path | str,
    remedy: str,
    *,
    nullable: Collection[str] = (),
    error: type[NLAError] = DataError,
) -> pa.Table:
    """Reads the columns of `schema` from a Parquet file, as the types that it has there.

    Args:
        source: path, or content, of the file.
        schema: columns to read; the table keeps its own metadata.
        name: names the file in messages.
        remedy: the next action, for messages.
        nullable: columns in which values may be missing.
        error: class of the error.

    Raises:
        NLAError: of class `error`; the file is missing or damaged, has too many columns or lacks one, or a column has
            another type or a missing value.
    """
    import pyarrow as pa  # half a second to import, and not needed for JSON
    import pyarrow.parquet as pq

    try:
        with regular(source).open("rb") if isinstance(source, Path) else contextlib.nullcontext(source) as content:
            check_table(content, name, remedy, error)
        file = pq.ParquetFile(source)
        names = file.schema_arrow.names
        if len(names) > MAX_COLUMNS:
            raise error(f"{name}: has {len(names):,} columns, more than {MAX_COLUMNS:,}. {remedy}")
        if lacking := [column for column in schema.names if column not in names]:
            raise error(f"{name}: no column {', '.join(lacking)}. {remedy}")
        table = file.read(columns=schema.names)
        table.validate(full=True)  # texts in UTF-8, offsets in their buffers
    except FileNotFoundError:
        raise error(f"{name}: file not found. {remedy}") from None
    except (pa.ArrowException, OSError, UnicodeError) as damage:
        raise error(f"{name}: not a Parquet file ({in_one_line(damage)}). {remedy}") from None
    columns = []
    for field in schema:
        column = table[field.name]
        try:
            columns.append(column.cast(field.type))
        except (pa.ArrowException, UnicodeError):
            raise error(f"{name}: column {field.name}: must be {field.type} (got {column.type}). {remedy}") from None
        if column.null_count and field.name not in nullable:
            raise error(f"{name}: column {field.name}: {column.null_count} values are missing. {remedy}")
    return pa.table(columns, names=schema.names).replace_schema_metadata(table.schema.metadata)


def read_batches(
    path: Path, columns: Sequence[str], rows: int, remedy: str, error: type[NLAError] = DataError
) -> Iterator[pa.RecordBatch]:
    """Yields `columns` of a Parquet file, such as `image.bytes`, up to `rows` rows at a time.

    The checksum of the file is not compared: callers read other columns before, by `read_columns`.

    Raises:
        NLAError: of class `error`; the file is missing or damaged. Damage of its rows shows when they are read.
    """
    import pyarrow as pa  # half a second to import, and not needed for JSON
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(regular(path)).iter_batches(rows, columns=columns):
            batch.validate(full=True)  # texts in UTF-8, offsets in their buffers
            yield batch
    except FileNotFoundError:
        raise error(f"{path}: file not found. {remedy}") from None
    except (pa.ArrowException, OSError, UnicodeError) as damage:
        raise error(f"{path}: the file is damaged ({in_one_line(damage)}). {remedy}") from None


def in_one_line(error: Exception) -> str:
    """The message of another library, without line breaks and cut to a readable length."""
    return shortened(" ".join(str(error).split()))


def write_table(path: Path, table: pa.Table) -> None:
    """Writes `table`, compressed with Zstandard, and with a checksum."""
    import pyarrow.parquet as pq  # half a second to import, and not needed for JSON

    with atomic_write(path) as part:
        pq.write_table(table, part, compression="zstd")
        seal_table(part)
