"""Corrections of labels: a CSV file with one line per image, as a review of an audit writes it and people edit it.

    image,old,action,new,p_anger,p_fear,path
    blake2b:5d0c...,fear,relabel,anger,,,a.png        it becomes anger
    blake2b:91f3...,fear,distribution,fear,0.4,0.6,b.png    it is ambiguous: the distribution is learnt
    blake2b:0be7...,anger,drop,,,,c.png               it is left out
    blake2b:77a4...,anger,keep,,,,d.png               its label was looked at, and is right

`image` is the hash of the image's pixels (`pixels` in data/faces.parquet), and `old` the label that was given to
training when the line was written. Both must still be so: a line means the image and its label, not a place in a table,
so that it survives when rows are added, and is refused when the label is another one. Columns `p_CLASS` are needed for
distributions only, and need not name every class. `path` is for the reader; nothing is looked up by it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from nla.config.base import nearest
from nla.data.problems import Problem
from nla.errors import DataError
from nla.io import atomic_write, in_one_line, read_regular
from nla.limits import MAX_COLUMNS

Action = Literal["relabel", "distribution", "drop", "keep"]
ACTIONS: tuple[Action, ...] = get_args(Action)
IMAGE, OLD, ACTION, NEW, PATH = "image", "old", "action", "new", "path"
NEEDED = (IMAGE, OLD, ACTION, NEW)
SHARE = "p_"
"""Prefix of the columns with the shares of a distribution."""
HASH = "blake2b:"
"""Prefix of an image's hash; without it, a spreadsheet would take some of them for numbers, and round them."""
HASH_BYTES = 16
DELIMITERS = ",;\t"
TOLERANCE = 0.01
"""Of the sum of the shares, which people and spreadsheets round."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a cell that a spreadsheet would run."""
REMEDY = "See docs/audit.md for the format."


@dataclass(frozen=True, slots=True)
class Correction:
    """What becomes of the rows with one image and one label."""

    image: bytes
    """BLAKE2b-128 of the pixels, as in FACES."""
    old: str
    action: Action
    new: str | None = None
    """The label, for `relabel` and `distribution`."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Class -> probability, for `distribution`; they sum to 1, and that of `new` is the largest."""
    line: int = 0
    """Line number in the file, counted from 1 as in an editor."""
    path: str = ""


@dataclass(frozen=True)
class Corrections:
    """The content of a file."""

    file: Path
    sha256: str
    lines: tuple[Correction, ...]
    problems: tuple[Problem, ...] = ()
    """Lines that cannot be applied to any data. None of the others is applied then, either."""


def read_corrections(path: Path) -> Corrections:
    """Reads a file of corrections; bad lines become problems, which `correct` reports with those that it finds.

    The file may have been saved by a spreadsheet: with a byte order mark, semicolons or tabs, CRLF, commas in numbers,
    and empty lines and cells at the end.

    Raises:
        DataError: the file is missing, is not CSV in UTF-8, or has not the columns of corrections.
    """
    try:
        content = read_regular(path)
    except FileNotFoundError:
        raise DataError(
            f"{path}: file not found. Name a file of corrections in data.corrections; one for no corrections has only "
            f"the line {','.join(NEEDED)}."
        ) from None
    lines = _lines(path, content)
    _, header = next(lines, (1, []))
    names = _columns(path, header)
    problems: list[Problem] = []
    found: dict[tuple[bytes, str], Correction] = {}
    for line, cells in lines:
        try:
            correction = _parse(line, _values(names, cells))
            if before := found.get((correction.image, correction.old)):
                raise ValueError(f"the same image and label as in line {before.line}. Keep one of the two lines")
            found[correction.image, correction.old] = correction
        except ValueError as wrong:
            problems.append(Problem(path.name, line, str(wrong)))
    digest = hashlib.sha256(content).hexdigest()
    return Corrections(path, digest, tuple(found.values()), tuple(problems))


def write_corrections(path: Path, corrections: Iterable[Correction], classes: Sequence[str]) -> None:
    """Writes a file that `read_corrections` reads, with a column of shares for each class."""
    columns = (*NEEDED, *(SHARE + name for name in classes), PATH)
    with atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(_row(correction) for correction in corrections)


def image_name(digest: bytes) -> str:
    """An image's hash as it is written in the file."""
    return HASH + digest.hex()


def harmless(path: str) -> str:
    """A path that no spreadsheet takes for a formula."""
    return f"./{path}" if path.startswith(FORMULA) else path


def _row(correction: Correction) -> dict[str, object]:
    shares = {SHARE + name: f"{share:.4f}" for name, share in correction.shares.items()}
    known = {IMAGE: image_name(correction.image), OLD: correction.old, ACTION: correction.action}
    return {**known, NEW: correction.new or "", **shares, PATH: harmless(correction.path)}


def _lines(path: Path, content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row that is not blank; for a quoted cell with line breaks, the line of the row's end."""
    reader = None
    try:
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        reader = csv.reader(text, delimiter=_delimiter(text.readline()), strict=True)
        text.seek(0)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except (UnicodeDecodeError, csv.Error) as error:
        after = f", after line {reader.line_num}" if reader else ""
        raise DataError(f"{path}{after}: not CSV in UTF-8 ({in_one_line(error)}). Save it as such. {REMEDY}") from None


def _delimiter(header: str) -> str:
    """The one that the header has most of."""
    return max(DELIMITERS, key=header.count)


def _columns(path: Path, header: Sequence[str]) -> list[str]:
    """Names of the columns. Raises DataError if one is missing, unknown or there twice."""
    names = [name.strip() for name in header]
    while names and not names[-1]:  # empty cells at the end
        names.pop()
    wrong = [f"no column {name}" for name in NEEDED if name not in names]
    known = (*NEEDED, PATH)
    wrong += [
        f"unknown column '{name}' (known are {', '.join(known)} and {SHARE}CLASS)"
        for name in names
        if name not in known and not name.startswith(SHARE)
    ]
    wrong += [f"two columns {name}" for name in dict.fromkeys(names) if names.count(name) > 1]
    if len(names) > MAX_COLUMNS:
        wrong = [f"{len(names):,} columns, more than {MAX_COLUMNS:,}"]
    if wrong:
        raise DataError(f"{path}, line 1: {'; '.join(wrong)}. {REMEDY}")
    return names


def _values(names: Sequence[str], cells: list[str]) -> dict[str, str]:
    if any(cell.strip() for cell in cells[len(names) :]) or len(cells) < len(names):
        raise ValueError(f"{len(cells)} instead of {len(names)} values")
    return dict(zip(names, cells[: len(names)], strict=True))


def _parse(line: int, values: Mapping[str, str]) -> Correction:
    """The correction of a line. Raises ValueError that says what is wrong."""
    image, old, new = _image(values[IMAGE].strip()), values[OLD].strip(), values[NEW].strip() or None
    action = cast(Action, values[ACTION].strip().lower())
    if action not in ACTIONS:
        raise ValueError(f"{ACTION}: unknown '{action}'{nearest(action, ACTIONS)}")
    if not old:
        raise ValueError(f"{OLD}: empty. Write the label that the image has")
    shares = _shares({name: text.strip() for name, text in values.items() if name.startswith(SHARE) and text.strip()})
    if shares and action != "distribution":
        raise ValueError(f"only {ACTION} distribution has shares (got {action}). Empty them")
    if action == "distribution":
        shares, new = _distribution(shares, new)
    elif action == "relabel":
        if new is None:
            raise ValueError(f"{NEW}: empty. Write the label that the image shall have")
        if new == old:
            raise ValueError(f"{NEW}: the same as {OLD} (got {new}). Write {ACTION} keep, or remove the line")
    elif new not in (None, old):
        raise ValueError(f"{NEW}: must be empty for {ACTION} {action} (got {new}). Empty it, or write relabel")
    else:
        new = None
    return Correction(image, old, action, new, shares, line, values.get(PATH, "").strip())


def _image(text: str) -> bytes:
    digits = text.removeprefix(HASH)
    try:
        digest = bytes.fromhex(digits) if len(digits) == 2 * HASH_BYTES else b""
    except ValueError:
        digest = b""
    if digits == text or len(digest) != HASH_BYTES:
        raise ValueError(f"{IMAGE}: must be {HASH} and {2 * HASH_BYTES} hexadecimal digits (got {text!r})")
    return digest


def _shares(texts: Mapping[str, str]) -> dict[str, float]:
    """Class -> share, without those that are 0. Raises ValueError if a text is no number from 0 to 1."""
    shares = {}
    for name, text in texts.items():
        try:
            share = float(text.replace(",", "."))  # as spreadsheets write it in many languages
        except ValueError:
            share = math.nan
        if not 0 <= share <= 1:
            raise ValueError(f"{name}: must be a number from 0 to 1 (got {text!r})")
        if share:
            shares[name.removeprefix(SHARE)] = share
    return shares


def _distribution(shares: Mapping[str, float], new: str | None) -> tuple[dict[str, float], str]:
    """Shares scaled to sum to 1, and the label: the class with the largest, the first one on ties if none is named."""
    total = sum(shares.values())
    if not abs(total - 1) <= TOLERANCE:
        raise ValueError(f"the shares must sum to 1, within {TOLERANCE} (got {total:.4g})")
    most = max(shares, key=lambda name: shares[name])
    if new is not None and shares.get(new) != shares[most]:
        raise ValueError(f"{NEW}: must be the class with the largest share, {most} (got {new})")
    return {name: share / total for name, share in shares.items()}, new or most
