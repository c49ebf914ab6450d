"""Well-formed tables with values that cannot be: each error names the file, the row, the column and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow_parts import write_samples

from nla.config.data import DataConfig
from nla.data.images import encode_png, pixel_hash
from nla.data.prepare import prepare
from nla.data.samples import load_annotations, load_samples
from nla.data.schema import FACES, SAMPLES, SPLITS, TableInfo, read_info, with_info
from nla.errors import DataError

CLASSES, VOTES = ("calm", "glad"), ("calm", "glad", "unknown")
ROWS = 12


def faces() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(ROWS):
        image = rng.integers(0, 256, (20, 20), np.uint8)
        rows.append(
            {
                "row": i,
                "split": SPLITS[i % 3],
                "label": i // 3 % 2,
                "fer2013_label": None,
                "votes": [3, 1, 0],
                "posterior": [0.75, 0.25],
                "pixels": pixel_hash(image),
                "image": {"bytes": encode_png(image), "path": f"{i}.png"},
            }
        )
    return rows


def prepared(root: Path, rows: list[dict[str, Any]], info: TableInfo | None = None) -> None:
    schema = with_info(FACES, info or TableInfo("tiny", CLASSES, VOTES))
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), root / "faces.parquet")
    prepare(root / "faces.parquet", root / "data", DataConfig(image_size=20))


def image(data: bytes | None) -> dict[str, Any]:
    return {"bytes": data, "path": "x.png"}


WHOLE = faces()[0]["image"]["bytes"]
IMPOSSIBLE: list[tuple[str, Any, str]] = [
    ("label", 2, "must be 0 to 1 (got 2)"),
    ("label", -1, "must be 0 to 1 (got -1)"),
    ("label", 127, "must be 0 to 1 (got 127)"),
    ("fer2013_label", 2, "must be 0 to 1 (got 2)"),
    ("split", "validation", "must be train, valid, test (got 'validation')"),
    ("split", "", "must be train, valid, test (got '')"),
    ("votes", [3, -1, 0], "must be 3 counts of 0 or more (got [3, -1, 0])"),
    ("votes", [3, None, 0], "must be 3 counts of 0 or more (got [3, None, 0])"),
    ("votes", [3, 1], "must be 3 counts of 0 or more (got [3, 1])"),
    ("votes", [], "must be 3 counts of 0 or more (got [])"),
    ("posterior", [0.75, 0.75], "must be 2 shares from 0 to 1 that sum to 1 (got [0.75, 0.75])"),
    ("posterior", [1.5, -0.5], "must be 2 shares from 0 to 1 that sum to 1 (got [1.5, -0.5])"),
    ("posterior", [float("nan"), 1.0], "must be 2 shares from 0 to 1 that sum to 1 (got [nan, 1.0])"),
    ("posterior", [1.0], "must be 2 shares from 0 to 1 that sum to 1 (got [1.0])"),
    ("row", 3, "must be a number from 0 on that no other row has (got 3)"),
    ("row", -1, "must be a number from 0 on that no other row has (got -1)"),
    ("image", image(b"no image"), "the file is damaged or not an image (PNG, JPEG, BMP or WebP)"),
    ("image", image(None), "the file is empty"),
    ("image", image(WHOLE[:40] + b"\0" + WHOLE[41:]), "the PNG is damaged (wrong checksum)"),
    ("image", image(WHOLE[:-12]), "the PNG is cut off"),
]


@pytest.mark.parametrize(("column", "value", "message"), IMPOSSIBLE)
def test_an_impossible_face_is_named_and_writes_nothing(tmp_path: Path, column: str, value: Any, message: str) -> None:
    rows = faces()
    rows[7][column] = value
    expected = re.escape(f"{tmp_path}/faces.parquet: row 7: {column}: {message}. Run `dvc repro -f ingest`.")
    with pytest.raises(DataError, match=f"^{expected}$"):
        prepared(tmp_path, rows)
    assert not list((tmp_path / "data").glob("*"))


def test_all_columns_are_told_at_once_with_the_number_of_rows(tmp_path: Path) -> None:
    rows = faces()
    for i in (4, 5, 9):
        rows[i]["label"] = 5
    rows[2]["split"] = "Training"
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, rows)
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/faces.parquet: impossible values. Run `dvc repro -f ingest`.",
        "  row 2: split: must be train, valid, test (got 'Training')",
        "  row 4: label: must be 0 to 1 (got 5), and 2 more rows",
    ]


def test_votes_for_other_classes_are_noticed(tmp_path: Path) -> None:
    """Their order is that of the classes; in another one each vote would be counted for another class."""
    with pytest.raises(DataError, match=r"faces\.parquet: metadata: votes: must begin with the classes \(got \('glad'"):
        prepared(tmp_path, faces(), TableInfo("tiny", CLASSES, ("glad", "calm", "unknown")))


def test_what_a_source_may_leave_out_is_no_fault(tmp_path: Path) -> None:
    rows = [row | {"votes": None, "posterior": None} for row in faces()]
    prepared(tmp_path, rows)
    prepared(tmp_path, [row | {"row": 2 * row["row"]} for row in rows], TableInfo("tiny", CLASSES))
    assert read_info(tmp_path / "data/train.parquet").votes == ()


def with_column(path: Path, column: str, change: Callable[[list[Any]], Any]) -> None:
    """Replaces the column by what `change` makes of its values."""
    table = pq.read_table(path)
    values = pa.array(change(table[column].to_pylist()), SAMPLES.field(column).type)
    pq.write_table(table.set_column(table.schema.get_field_index(column), SAMPLES.field(column), values), path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("label", 3, r"must be 0 to 2 \(got 3\)"),
        ("clean_label", -1, r"must be 0 to 2 \(got -1\)"),
        ("target", [0.5, 0.6, 0.0], r"must be 3 shares from 0 to 1 that sum to 1 \(got \[0\.5, 0\.6"),
        ("votes", [0.5, 0.5], r"must be 3 shares"),
        ("posterior", [1.0, 1.0, -1.0], r"must be 3 shares"),
    ],
)
def test_an_impossible_sample_is_named(tmp_path: Path, column: str, value: Any, message: str) -> None:
    path = write_samples(tmp_path / "train.parquet", [0, 1, 2, 0])
    with_column(path, column, lambda values: [*values[:2], value, *values[3:]])
    with pytest.raises(DataError, match=rf"train\.parquet: row 2: {column}: {message}.*Remove the file and run"):
        load_samples(path)
        load_annotations(path)
