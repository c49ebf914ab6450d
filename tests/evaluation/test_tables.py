"""Tables of all images against pandas, and the CSV files as DVC reads them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nla.data.schema import SAMPLES
from nla.evaluation.calibration import reliability
from nla.evaluation.tables import predictions, suspects, write_confusion, write_reliability

CLASSES = ("joy", "fear", "neutral")
LABEL_N = [0, 2, 1, 1, 0]
P_NC = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.9, 0.05, 0.05], [0.1, 0.6, 0.3], [0.05, 0.05, 0.9]], np.float32)


def table(folder: Path, *, flipped: bool) -> Path:
    rows = [
        {
            "row": 10 + i,
            "label": c,
            "clean_label": 2 if flipped and i == 2 else c,
            "is_flipped": flipped and i == 2,
            "image": {"bytes": b"x", "path": f"{i} ä.png"},
        }
        for i, c in enumerate(LABEL_N)
    ]
    pq.write_table(pa.Table.from_pylist(rows, SAMPLES), folder / "split.parquet")
    return folder / "split.parquet"


@pytest.mark.parametrize("flipped", [False, True])
def test_predictions_keep_the_order_and_have_the_names_of_clean_labels(tmp_path: Path, flipped: bool) -> None:
    found = predictions(table(tmp_path, flipped=flipped), P_NC, CLASSES).to_pandas()
    expected = pd.DataFrame(
        {
            "row": [10, 11, 12, 13, 14],
            "path": [f"{i} ä.png" for i in range(5)],
            "label": ["joy", "neutral", "neutral" if flipped else "fear", "fear", "joy"],
            "predicted": ["joy", "joy", "joy", "fear", "neutral"],
            "p_joy": P_NC[:, 0],
            "p_fear": P_NC[:, 1],
            "p_neutral": P_NC[:, 2],
        }
    )
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


@pytest.mark.parametrize("flipped", [False, True])
def test_suspects_begin_with_the_least_probable_label(tmp_path: Path, flipped: bool) -> None:
    found = suspects(table(tmp_path, flipped=flipped), P_NC, CLASSES).to_pandas()
    assert found.row.tolist() == [12, 14, 11, 13, 10]  # 12 and 14 are alike, and keep their order
    assert found.likely.tolist() == ["joy", "neutral", "joy", "fear", "joy"]
    np.testing.assert_allclose(found.p_label, [0.05, 0.05, 0.2, 0.6, 0.7])
    np.testing.assert_allclose(found.p_likely, [0.9, 0.9, 0.5, 0.6, 0.7])
    assert ("is_flipped" in found) == flipped
    assert not flipped or found.is_flipped.tolist() == [True, False, False, False, False]


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
