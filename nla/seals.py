"""Checksums inside of files: each notices a single other byte, wherever it is, when the file is read.

What is written seals the bytes of a file with their SHA-256:

    sealed_line   JSON in one line; the first field, `sha256`, is of all bytes that follow it
    sealed_json   indented JSON; the last field, `checksum`, is of all bytes before it
    seal_table    Parquet; the hash of all other bytes is between the pages and the footer, where no reader looks

Files without a seal, of earlier versions or other programs, are read as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from nla.errors import DataError, NLAError

SIZE = hashlib.sha256().digest_size
BLOCK = 1 << 20  # bytes hashed at a time
_LINE_BEGIN, _LINE_END = b'{"sha256": "', b'", '
_FIELD, _FIELD_END = b',\n  "checksum": "', b'"\n}\n'
_MARK = b"NLA\x00SHA256"  # before the hash in a table
_TAIL = 8  # bytes at the end of a Parquet file: length of the footer, PAR1


def sealed_line(record: Mapping[str, Any]) -> bytes:
    """`record` as one line of JSON, whose first field `sha256` is the hash of all bytes that follow it."""
    rest = json.dumps(record).encode()[1:]
    return _LINE_BEGIN + _hex(rest) + _LINE_END + rest


def check_line(content: bytes, source: Path | str, remedy: str, error: type[NLAError] = DataError) -> None:
    """Checks the content of a file that `sealed_line` made. Raises `error` if a byte of it is another one."""
    rest = content[len(_LINE_BEGIN) + 2 * SIZE + len(_LINE_END) :]
    if content != _LINE_BEGIN + _hex(rest) + _LINE_END + rest:
        raise error(f"{source}: sha256: does not match the content, which was damaged or edited. {remedy}")


def sealed_json(record: Mapping[str, Any]) -> bytes:
    """`record`, which is not empty, as indented JSON, with a last field `checksum`: the hash of all bytes before it."""
    others = {name: value for name, value in record.items() if name != "checksum"}  # left by an edit
    rest = json.dumps(others, indent=2).encode().removesuffix(b"\n}")
    return rest + _FIELD + _hex(rest) + _FIELD_END


def without_checksum(content: bytes) -> bytes:
    """What `sealed_json` was given; any other content as it is."""
    rest, field, _, _ = _parts(content)
    return rest + b"\n}\n" if field == _FIELD else content


def check_json(content: bytes, source: Path | str, remedy: str, error: type[NLAError] = DataError) -> None:
    """Checks the content of a JSON file, if `sealed_json` made it. Raises `error` if a byte of it is another one."""
    rest, field, found, end = _parts(content)
    parts = (field == _FIELD, found == _hex(rest), end == _FIELD_END)
    if any(parts[:2]) and not all(parts):  # the end is that of other JSON, too
        raise error(
            f"{source}: checksum: does not match the content, which was damaged or edited. {remedy} If that was "
            "on purpose, remove the field."
        )


def _parts(content: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """What precedes the field `checksum`, the field's name, its value, and the end."""
    end = max(len(content) - len(_FIELD_END), 0)
    value = max(end - 2 * SIZE, 0)
    name = max(value - len(_FIELD), 0)
    return content[:name], content[name:value], content[value:end], content[end:]


def _hex(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def seal_table(path: Path) -> None:
    """Inserts the seal into a Parquet file that is complete. Raises OSError, as of a full disk."""
    with path.open("r+b") as file:
        footer = _footer(file)
        digest = _digest(file, footer, footer)
        file.seek(footer)
        end = file.read()
        file.seek(footer)
        file.write(_MARK + digest + end)


def check_table(file: BinaryIO, source: Path | str, remedy: str, error: type[NLAError] = DataError) -> None:
    """Checks a Parquet file, if it has a seal. Raises `error` if a byte of it is another one."""
    footer = _footer(file)
    begin = footer - len(_MARK) - SIZE
    if begin < 0:
        return
    file.seek(begin)
    mark, digest = file.read(len(_MARK)), file.read(SIZE)
    others = sum(a != b for a, b in zip(mark, _MARK, strict=True))
    if others > 1:  # no seal; a damaged one has one other byte
        return
    if others or digest != _digest(file, begin, footer):
        raise error(f"{source}: the file is damaged (its sha256 does not match). {remedy}")


def _footer(file: BinaryIO) -> int:
    """Position of the footer; negative if the length that the file states is longer than the file."""
    size = file.seek(0, 2)
    file.seek(max(size - _TAIL, 0))
    return size - _TAIL - int.from_bytes(file.read(4), "little")


def _digest(file: BinaryIO, end: int, start: int) -> bytes:
    """Hash of the bytes before `end`, and from `start` on."""
    digest = hashlib.sha256()
    file.seek(0)
    while left := end - file.tell():
        if not (block := file.read(min(left, BLOCK))):
            break
        digest.update(block)
    file.seek(start)
    while block := file.read(BLOCK):
        digest.update(block)
    return digest.digest()
