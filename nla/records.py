"""Small JSON and CSV records, written whole or not at all, with the same bytes on every system."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nla.errors import DataError


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Writes `record`, indented, through a file beside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(record, indent=2) + "\n")
    part.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a record that an earlier stage wrote. Raises DataError where it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run `dvc repro`") from None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): remove it and run `dvc repro`") from None


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as CSV with a header of all their keys, in the order in which they turn up."""
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    # newline="" leaves line ends inside of a quoted cell alone, and keeps Windows from doubling them
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    unfinished.replace(path)
