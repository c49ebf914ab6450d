"""Files are whole or absent, byte-identical on every system, and validated when they are read back."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from nla.errors import DataError, WeightsError
from nla.io import atomic_write, parse_json_as, read_json_as, sha256, write_json, write_rows


class Split(BaseModel):
    rows: int


class Report(BaseModel):
    name: str
    splits: dict[str, Split] = {}


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rows: int


@dataclass
class Counts:
    epochs: int
    history: list[dict[str, float]] = field(default_factory=list)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/table.parquet"
    with atomic_write(path) as part:
        part.write_text("half")
        assert not path.exists() and part.parent == path.parent
        part.write_text("whole")
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_two_writers_of_a_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with atomic_write(path) as part:
        part.write_text("first")
        with pytest.raises(OSError, match="another process is writing it") as caught, atomic_write(path):
            raise AssertionError("the second writes, too")
        assert caught.value.filename == str(path) and part.read_text() == "first"
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]
    (tmp_path / "a.csv.part").write_text("of a process that was killed")
    with atomic_write(path) as part:
        part.write_text("second")
    assert path.read_text() == "second" and list(tmp_path.iterdir()) == [path]


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/"), Path()):
        with pytest.raises(OSError, match=r"a folder\. Name a file"), atomic_write(path):
            raise AssertionError("something is written")
    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_sha256_is_that_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "abc").write_text("abc")  # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_csv_keeps_every_column_and_digit(tmp_path: Path) -> None:
    epochs = [{"epoch": 1, "train_loss": 0.1 + 0.2}, {"epoch": 2, "train_loss": 1e-9, "valid_accuracy": 0.5}]
    write_rows(tmp_path / "c.csv", epochs)
    first, second = rows_of(tmp_path / "c.csv")
    assert first == {"epoch": "1", "train_loss": "0.30000000000000004", "valid_accuracy": ""}
    assert float(second["train_loss"]) == 1e-9


def test_csv_has_the_same_line_ends_everywhere(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", [{"name": "two\nlines", "é": 1}, {"name": "x", "é": 2}])
    assert (tmp_path / "a.csv").read_bytes() == 'name,é\n"two\nlines",1\nx,2\n'.encode()
    assert rows_of(tmp_path / "a.csv")[0]["name"] == "two\nlines"


def test_overwriting_leaves_no_other_file(tmp_path: Path) -> None:
    write_rows(tmp_path / "c.csv", [{"epoch": 1}])
    write_rows(tmp_path / "c.csv", [{"epoch": 2}])
    assert [path.name for path in tmp_path.iterdir()] == ["c.csv"]
    assert rows_of(tmp_path / "c.csv") == [{"epoch": "2"}]


def test_json_is_read_as_a_model_a_dataclass_or_a_type(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "n", "splits": {"test": {"rows": 3}}, "unknown": None})
    assert read_json_as(tmp_path / "a.json", Report) == Report(name="n", splits={"test": Split(rows=3)})
    write_json(tmp_path / "b.json", {"epochs": 2, "history": [{"loss": 1.5}]})
    assert read_json_as(tmp_path / "b.json", Counts) == Counts(2, [{"loss": 1.5}])
    write_json(tmp_path / "c.json", {"uri": "id"})
    assert read_json_as(tmp_path / "c.json", dict[str, str]) == {"uri": "id"}


@given(st.floats(), st.integers(), st.text())
def test_numbers_and_text_survive_bit_for_bit(number: float, integer: int, text: str) -> None:
    content = json.dumps({"number": number, "integer": integer, "text": text}).encode()
    read = parse_json_as(content, dict[str, Any], "a.json", "")
    assert read["integer"] == integer and read["text"] == text
    same_bits = number.hex() == read["number"].hex()
    assert same_bits or (math.isnan(number) and math.isnan(read["number"]))


@pytest.mark.parametrize(
    ("content", "schema", "problem"),
    [
        ("{", Report, "not valid JSON (EOF while parsing an object at line 1 column 1)"),
        ("\x00", Report, "not valid JSON (expected value at line 1 column 1)"),
        ("{}", Report, "name: field required"),
        ('{"name": 3}', Report, "name: must be a valid string (got 3)"),
        ('{"name": "n", "splits": {"test": {}}}', Report, "splits.test.rows: field required"),
        ('{"epochs": 1, "history": [{"loss": "x"}]}', Counts, "history.0.loss: must be a valid number"),
        ("[]", Report, "must be an object (got [])"),
        ('{"rows": 1, "row": 2}', Closed, "row: extra inputs are not permitted (got 2)"),
        (json.dumps({"name": [1] * 999}), Report, "..."),
    ],
)
def test_invalid_json_is_reported_in_one_line_with_file_field_and_remedy(
    tmp_path: Path, content: str, schema: type, problem: str
) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_json_as(path, schema, "Run `dvc repro`.")
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and problem in message and message.endswith(". Run `dvc repro`.")
    assert "\n" not in message and len(message) < len(str(path)) + 160


def test_a_missing_file_raises_the_error_that_the_caller_asks_for(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"run\.json: file not found\. Train it\."):
        read_json_as(tmp_path / "run.json", Report, "Train it.", WeightsError)
