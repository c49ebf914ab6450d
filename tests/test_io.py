"""CSV tables: every digit, the same bytes on every system, whole or not at all."""

from __future__ import annotations

import csv
from pathlib import Path

from nla.io import write_rows


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_column_and_digit_is_kept(tmp_path: Path) -> None:
    epochs = [{"epoch": 1, "train_loss": 0.1 + 0.2}, {"epoch": 2, "train_loss": 1e-9, "valid_accuracy": 0.5}]
    write_rows(tmp_path / "c.csv", epochs)
    first, second = rows_of(tmp_path / "c.csv")
    assert first == {"epoch": "1", "train_loss": "0.30000000000000004", "valid_accuracy": ""}
    assert float(second["train_loss"]) == 1e-9


def test_line_ends_are_the_same_everywhere(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", [{"name": "two\nlines", "é": 1}, {"name": "x", "é": 2}])
    assert (tmp_path / "a.csv").read_bytes() == 'name,é\n"two\nlines",1\nx,2\n'.encode()
    assert rows_of(tmp_path / "a.csv")[0]["name"] == "two\nlines"


def test_nothing_else_is_left_behind(tmp_path: Path) -> None:
    write_rows(tmp_path / "c.csv", [{"epoch": 1}])
    write_rows(tmp_path / "c.csv", [{"epoch": 2}])
    assert [path.name for path in tmp_path.iterdir()] == ["c.csv"]
    assert rows_of(tmp_path / "c.csv") == [{"epoch": "2"}]
