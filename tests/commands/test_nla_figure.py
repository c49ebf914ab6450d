"""`nla figure`: from a table of predictions to a file for a paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nla.commands.figure import FIGURES, main
from nla.errors import CommandError, DataError

CLASSES = ["joy", "fear", "calm"]


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """A table like those of reports/predictions/, of 40 images."""
    random = np.random.default_rng(0)
    p_NC = random.dirichlet([1, 1, 1], 40).astype(np.float32)
    label = [CLASSES[c] for c in random.integers(0, 3, 40)]
    known = {"row": range(40), "path": [f"{i}.png" for i in range(40)], "label": label, "predicted": label}
    path = tmp_path / "test.parquet"
    pq.write_table(pa.table({**known, **{f"p_{name}": p_NC[:, c] for c, name in enumerate(CLASSES)}}), path)
    return path


@pytest.mark.parametrize("picture", FIGURES)
def test_each_picture_has_its_words_and_a_headline_if_wanted(predictions: Path, tmp_path: Path, picture: str) -> None:
    said = {}
    for name, options in (("without", []), ("with", ["--title"])):
        out = tmp_path / f"{name}.svg"
        main([picture, str(out), "--predictions", str(predictions), *options])
        said[name] = out.read_text()
    assert "test faces, labels unaltered" in said["with"] and "test faces" not in said["without"]
    assert "joy" in said["without"] or picture == "reliability"


def test_what_cannot_be_drawn_is_told(predictions: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"c\.bmp: unsupported file format .* Use \.png, \.pdf, \.svg"):
        main(["confusion", str(tmp_path / "c.bmp"), "--predictions", str(predictions)])
    with pytest.raises(CommandError, match=r"lost\.parquet: file not found\. Run `dvc repro`"):
        main(["confusion", str(tmp_path / "c.pdf"), "--predictions", str(tmp_path / "lost.parquet")])
    assert [path.name for path in tmp_path.iterdir()] == ["test.parquet"]


def test_another_table_is_an_error(tmp_path: Path) -> None:
    """Such as reports/suspects.parquet, which has columns p_label and p_likely."""
    pq.write_table(pa.table({"row": [0], "path": ["a"], "label": ["joy"], "p_label": [0.5]}), tmp_path / "s.parquet")
    with pytest.raises(DataError, match=r"s\.parquet: no column predicted\. Name a table of reports/predictions/"):
        main(["recall", str(tmp_path / "c.pdf"), "--predictions", str(tmp_path / "s.parquet")])
