"""docs/datasets.md, "Adding a data set", followed word for word."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML
from worked_example import copy_of_project, follow, run

from nla.config.base import merge
from nla.data.images import encode_png


@pytest.mark.slow
@pytest.mark.thorough
def test_a_source_is_added_as_the_page_shows(tmp_path: Path) -> None:
    project = copy_of_project(tmp_path)
    files = follow("docs/datasets.md", "Adding a data set", project)
    assert files == ["nla/data/sources/filenames.py", "nla/config/data.py", "nla/data/sources/__init__.py"]
    run(project, "-m", "nla.workflow.deps", "--write")
    run(project, "-m", "nla.workflow.deps", "--check")
    assert "nla/data/sources/filenames.py" in (project / "dvc.yaml").read_text()

    yaml, chosen = YAML(typ="safe", pure=True), {"data": {"source": "filenames", "on_bad": "quarantine"}}
    yaml.dump(merge(yaml.load(project / "params.yaml"), chosen), project / "params.yaml")
    rng = np.random.default_rng(0)
    for split, name in [
        (s, f"{c}_{i}.png") for s in ("train", "test") for c in ("anger", "fear", "joy") for i in (1, 2)
    ]:
        path = project / "data/raw/filenames" / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(rng.integers(0, 256, (20, 20), np.uint8)))
    path.with_name("smile_1.png").write_bytes(path.read_bytes())
    run(project, "-m", "pipelines.ingest")
    run(project, "-m", "pipelines.prepare")
    report = json.loads((project / "reports/ingest.json").read_text())
    assert report["problems"] == ["test/smile_1.png: 'smile' is not a class"]
    assert report["counts"]["train"]["classes"] == {"anger": 2, "fear": 2, "joy": 2}
    rows = {split: pq.read_metadata(project / f"data/{split}.parquet").num_rows for split in ("train", "valid", "test")}
    assert rows == {"train": 3, "valid": 3, "test": 6}
    run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/data/test_ingest.py", "-k", "source")
