"""The file of corrections as DVC sees it: each change of it prepares the data again, and a wrong line stops that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tiny_project import Project, stage_outs

from nla.data.corrections import Correction, write_corrections
from nla.data.schema import read_info

pytestmark = pytest.mark.slow


def rows(project: Project, split: str = "train") -> dict[int, dict[str, Any]]:
    return {row["row"]: row for row in pq.read_table(project / f"data/{split}.parquet").to_pylist()}


@pytest.mark.thorough
def test_what_the_file_says_is_in_the_tables_and_a_wrong_line_in_none(prepared: Project, tmp_path: Path) -> None:
    project = prepared.copy(tmp_path / "project")
    assert "Stage 'prepare' didn't change" in project.dvc("repro", "prepare")
    before, classes = rows(project), read_info(project / "data/train.parquet").classes
    place, row = next(iter(before.items()))
    old, new = classes[row["label"]], classes[(row["label"] + 1) % len(classes)]
    image = pq.read_table(project / "data/faces.parquet")["pixels"].to_pylist()[place]
    write_corrections(project / "data/corrections.csv", [Correction(image, old, "relabel", new)], classes)
    assert "corrections of data/corrections.csv: train 1 relabelled" in project.dvc("repro", "prepare")
    after = rows(project)
    assert after.pop(place)["label"] == classes.index(new) and after == {i: r for i, r in before.items() if i != place}

    (project / "data/other.csv").write_text(f"\ufeffimage;old;action;new\r\nblake2b:{image.hex()};{new};drop;\r\n")
    project.set({"data": {"corrections": "data/other.csv"}})
    outcome = project.try_dvc("repro", "prepare")
    assert outcome.code != 0 and "Traceback" not in outcome.text
    assert f"other.csv, line 2: the image is not labelled {new} but {old}" in outcome.err
    assert not [out for out in stage_outs("prepare") if (project / out).exists()]
    (project / "data/other.csv").write_text(f"\ufeffimage;old;action;new\r\nblake2b:{image.hex()};{old};drop;\r\n")
    project.dvc("repro", "prepare")
    assert rows(project) == {i: r for i, r in before.items() if i != place}
    assert project.read_json("reports/prepare.json")["corrections"]["splits"]["train"]["drop"] == 1
