"""CSV files as DVC reads them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from nla.evaluation.calibration import reliability
from nla.evaluation.tables import write_confusion, write_reliability


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
