"""The study of clips: its grid, its records, and the numbers of its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nla.config.base import read_params
from nla.errors import ConfigError
from nla.video.study import (
    SMOOTHED,
    CellRecord,
    VideoGrid,
    cell_params,
    cells,
    difference,
    read_grid,
    record_path,
    report_lines,
    run_cell,
)

STUDY = Path(__file__).parents[2] / "studies/video"
TINY: dict[str, Any] = {
    "clips": {"drawn": {"train": 30, "valid": 6, "test": 6, "frames": 40}},
    "model": {"width": 4},
    "loss": {"name": "ce"},
    "train": {"epochs": 1, "batch_size": 32},
    "sequence": {"window": 20, "model": {"width": 8, "heads": 2}, "train": {"epochs": 1, "select": "macro_f1"}},
}
GRID = VideoGrid(
    seeds=[1],
    conditions={"10 % per segment": {"law": "segment", "rate": 0.1}},
    methods={"ce": {"loss": {"name": "ce"}}, "naw": {"loss": {"variant": "released-video"}}},
)


def record(seed: int, right: dict[str, int], videos: int = 5) -> CellRecord:
    """Each video has ten frames of two classes; `right` of those of the first class are recognised."""
    counts = {name: [[[r, 5 - r], [0, 5]] for _ in range(videos)] for name, r in right.items()}
    facts: dict[str, Any] = {"condition": "clean", "seed": seed, "fingerprint": "f", "flipped": 0, "sigma": 1.0}
    return CellRecord(**facts, bayes_accuracy=0.9, epochs={}, counts=counts)


def test_the_grid_of_the_project_is_valid_in_every_cell() -> None:
    grid, params = read_grid(STUDY / "grid.yaml"), read_params(STUDY / "params.yaml")
    assert len(list(cells(grid))) == 15 and len(grid.seeds) == 5
    names = {record_path(Path("records"), *cell).name for cell in cells(grid)}
    assert len(names) == 15 and all(name.removesuffix(".json").replace("-", "").isalnum() for name in names)
    own = cell_params(params, grid.conditions["30 % per segment"], 3)
    assert own["clips"]["noise"] == {"law": "segment", "rate": 0.3}
    assert own["clips"]["drawn"]["seed"] == own["train"]["seed"] == own["sequence"]["train"]["seed"] == 3


def test_a_wrong_grid_is_named(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text("seeds: [0]\nconditions: {clean: {}}\nmethod: {}\n")
    with pytest.raises(ConfigError, match=r"grid\.yaml:\n(.|\n)*unknown key 'grid\.method': did you mean 'methods'"):
        read_grid(tmp_path / "grid.yaml")


def test_a_difference_is_the_mean_over_seeds_and_paired() -> None:
    records = [record(0, {SMOOTHED: 2, "naw": 4}), record(1, {SMOOTHED: 3, "naw": 4})]
    found = difference(records, "naw", SMOOTHED, "accuracy", 200, 0)
    assert found[0] == pytest.approx((0.2 + 0.1) / 2)
    np.testing.assert_allclose(found[1:], found[0], atol=1e-12)  # every video is the same, so that no draw differs
    assert difference(records, "naw", "naw", "macro_f1", 50, 0) == (0, 0, 0)


def test_the_report_states_means_spread_and_differences() -> None:
    records = [record(0, {SMOOTHED: 2, "naw": 4}), record(1, {SMOOTHED: 3, "naw": 4})]
    text = "\n".join(report_lines(records, 100, 0))
    assert "## clean" in text and "2 seeds; 0 wrong labels" in text and "Bayes accuracy 90.00%" in text
    (row,) = (line for line in text.splitlines() if line.startswith("| naw |"))
    assert "| 0.9000 +- 0.0000 |" in row
    (row,) = (line for line in text.splitlines() if line.startswith(f"| {SMOOTHED} |"))
    assert row.endswith("| - |") and "0.7500 +- 0.0707" in row


@pytest.mark.thorough
def test_a_cell_is_made_once(tmp_path: Path) -> None:
    made = run_cell(GRID, TINY, "10 % per segment", 1, tmp_path / "records", tmp_path / "work")
    assert set(made.counts) == {"frame model", SMOOTHED, "ce", "naw"}
    assert made.flipped == 120 and made.counts_VCC("naw").shape == (6, 8, 8)
    assert all(made.counts_VCC(name).sum() == 240 for name in made.counts)
    assert not list((tmp_path / "work").iterdir())
    path = record_path(tmp_path / "records", "10 % per segment", 1)
    before = path.stat().st_mtime_ns
    assert run_cell(GRID, TINY, "10 % per segment", 1, tmp_path / "records", tmp_path / "work") == made
    assert path.stat().st_mtime_ns == before
