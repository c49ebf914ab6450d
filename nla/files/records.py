"""Small JSON and CSV records, written atomically, with the same bytes on every system."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nla.errors import DataError
from nla.files.whole import whole


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Writes `record`, indented."""
    with whole(path) as part:
        part.write_text(json.dumps(record, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a record that an earlier stage wrote. Raises DataError if it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run `dvc repro`") from None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): remove it and run `dvc repro`") from None


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as CSV, with a header of all their keys in order of first appearance."""
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    # newline="" keeps line ends inside quoted cells, and stops Windows from doubling them
    with whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
