"""CSV files as DVC reads them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from nla.evaluation.calibration import reliability
from nla.evaluation.tables import write_confusion, write_curves, write_reliability, write_rows


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_confusion_has_one_row_a_sample(tmp_path: Path) -> None:
    write_confusion(tmp_path / "plots/confusion.csv", np.array([0, 1]), np.array([1, 1]), ("fear", "sur,prise"))
    wanted = [{"actual": "fear", "predicted": "sur,prise"}, {"actual": "sur,prise", "predicted": "sur,prise"}]
    assert rows_of(tmp_path / "plots/confusion.csv") == wanted


def test_reliability_leaves_out_empty_bins(tmp_path: Path) -> None:
    bins = reliability(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]), 10)
    write_reliability(tmp_path / "r.csv", bins)
    found = [tuple(map(float, row.values())) for row in rows_of(tmp_path / "r.csv")]
    np.testing.assert_allclose(found, [(0.6, 0, 1), (0.9, 1, 1)])
    assert list(rows_of(tmp_path / "r.csv")[0]) == ["confidence", "accuracy", "count"]


def test_curves_keep_every_column_and_digit(tmp_path: Path) -> None:
    epochs = [{"epoch": 1, "train_loss": 0.1 + 0.2}, {"epoch": 2, "train_loss": 1e-9, "valid_accuracy": 0.5}]
    write_curves(tmp_path / "c.csv", epochs)
    first, second = rows_of(tmp_path / "c.csv")
    assert first == {"epoch": "1", "train_loss": "0.30000000000000004", "valid_accuracy": ""}
    assert float(second["train_loss"]) == 1e-9


def test_line_ends_are_the_same_everywhere(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", [{"name": "two\nlines", "é": 1}, {"name": "x", "é": 2}])
    assert (tmp_path / "a.csv").read_bytes() == 'name,é\n"two\nlines",1\nx,2\n'.encode()
    assert rows_of(tmp_path / "a.csv")[0]["name"] == "two\nlines"


def test_nothing_else_is_left_behind(tmp_path: Path) -> None:
    write_curves(tmp_path / "c.csv", [{"epoch": 1}])
    write_curves(tmp_path / "c.csv", [{"epoch": 2}])
    assert [path.name for path in tmp_path.iterdir()] == ["c.csv"]
    assert rows_of(tmp_path / "c.csv") == [{"epoch": "2"}]
