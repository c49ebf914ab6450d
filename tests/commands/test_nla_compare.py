"""`nla compare` on real tables, and on a real DVC project with a tag and an experiment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow_parts import clean_env
from patience import PATIENCE

from nla.commands.compare import main
from nla.errors import DataError
from nla.evaluation.significance import mcnemar, paired_difference

LABELS = ["anger", "fear", "joy", "joy"] * 10
PIPELINE = """
stages:
  evaluate:
    cmd: unused
    outs: [reports/predictions]
"""


def listing(path: str, right: int, labels: list[str] = LABELS, first: int = 0, reverse: bool = False) -> None:
    """A table whose first `right` rows are right; the others are taken for joy or anger."""
    rows = [
        {
            "row": first + i,
            "path": f"{first + i}.png",
            "label": label,
            "predicted": label if i < right else "anger" if label == "joy" else "joy",
            "p_joy": 0.5,
        }
        for i, label in enumerate(labels)
    ]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows[::-1] if reverse else rows), path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    main([*argv])
    return capsys.readouterr().out.splitlines()


def test_two_files_whose_rows_have_another_order(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listing("a.parquet", 20)
    listing("other/b.parquet", 32, reverse=True)
    lines = said(capsys, "a.parquet", "other/b.parquet")
    right_a_N, right_b_N = np.arange(40) < 20, np.arange(40) < 32
    difference, low, high = (100 * x for x in paired_difference(right_b_N, right_a_N, 1000, 0))
    assert difference == 30 and 0 < low < 30 < high
    assert lines == [
        "40 images",
        "A  a.parquet        accuracy 50.00%, mean accuracy 50.00%",
        "B  other/b.parquet  accuracy 80.00%, mean accuracy 80.00%",
        f"B - A: +30.00 points of accuracy, 95 % CI {low:+.2f} to {high:+.2f}",
        f"only A is right on 0 images, only B on 12: McNemar's exact p {mcnemar(0, 12):.3g}",
        "  anger  recall  50.0% ->  80.0%   +30.0  n 10",
        "  fear   recall  50.0% ->  80.0%   +30.0  n 10",
        "  joy    recall  50.0% ->  80.0%   +30.0  n 20",
    ]


def test_each_class_counts_the_same_in_the_mean(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of joy are wrong, and joy is half of the images; the other two classes are right."""
    listing("b.parquet", 20, sorted(LABELS))
    listing("a.parquet", 40, sorted(LABELS))
    lines = said(capsys, "a.parquet", "b.parquet")
    assert lines[2] == "B  b.parquet  accuracy 50.00%, mean accuracy 66.67%"
    assert lines[3].startswith("B - A: -50.00 points") and "only A is right on 20 images, only B on 0" in lines[4]
    assert lines[7] == "  joy    recall 100.0% ->   0.0%  -100.0  n 20"


def test_images_of_only_one_are_left_out_and_reported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listing("a.parquet", 40)
    listing("b.parquet", 20, LABELS, first=20)
    assert said(capsys, "a.parquet", "b.parquet")[:3] == [
        "only in a.parquet, left out: 20 images",
        "only in b.parquet, left out: 20 images",
        "20 images",
    ]


def test_what_cannot_be_compared_is_an_error(here: Path) -> None:
    listing("a.parquet", 40)
    listing("far.parquet", 40, first=1000)
    listing("other.parquet", 40, ["joy", *LABELS[1:]])
    pq.write_table(pa.concat_tables([pq.read_table("a.parquet")] * 2), "twice.parquet")
    pq.write_table(pa.table({"row": [1], "path": ["x"]}), "foreign.parquet")
    Path("text.parquet").write_text("no table")
    for name, why in {
        "far.parquet": "no images in common",
        "other.parquet": r"labels of 1 images differ, .* row 0, 0.png: anger and joy\. Compare results with the same",
        "twice.parquet": "duplicate images in a table",
        "foreign.parquet": r"foreign.parquet: no column label, predicted\. Name a table of reports/predictions/",
        "text.parquet": "text.parquet: not a Parquet file",
        "absent.parquet": r"absent.parquet: file not found\. `dvc repro` writes reports/predictions/test.parquet",
        "baseline": "baseline: not a file, and not in a DVC project",
    }.items():
        with pytest.raises(DataError, match=why):
            main(["a.parquet", name])


def run(*command: str) -> None:
    subprocess.run(command, env=clean_env(), check=True, capture_output=True, timeout=PATIENCE)


def dvc(*argv: str) -> None:
    run(sys.executable, "-m", "dvc", *argv)


@pytest.fixture
def project(here: Path) -> Path:
    """A project with the tag `base` and the experiment `better`; its workspace has what the experiment has."""
    run("git", "init", "-q")
    run("git", "config", "user.name", "test")
    run("git", "config", "user.email", "test@localhost")
    dvc("init", "-q")
    Path("dvc.yaml").write_text(PIPELINE)
    for right, finish in ((20, ("git", "commit", "-qam", "base")), (32, None)):
        for name, more in (("test", 0), ("valid", 4)):
            listing(f"reports/predictions/{name}.parquet", right + more)
        dvc("commit", "-fq")
        if finish:
            run("git", "add", "-A")
            run(*finish)
            run("git", "tag", "base")
    dvc("exp", "save", "-n", "better")
    return here


def test_revisions_and_experiments(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "base", "better")
    assert lines[1:3] == [
        "A  base    accuracy 50.00%, mean accuracy 50.00%",
        "B  better  accuracy 80.00%, mean accuracy 80.00%",
    ]
    assert said(capsys, "HEAD", "reports/predictions/valid.parquet", "--split", "valid")[1:3] == [
        "A  HEAD                               accuracy 60.00%, mean accuracy 60.00%",
        "B  reports/predictions/valid.parquet  accuracy 90.00%, mean accuracy 90.00%",
    ]
    with pytest.raises(DataError, match=r"bettr: neither a file nor a revision\. `dvc exp show`"):
        main(["base", "bettr"])
    for file in (project / ".dvc/cache").rglob("*"):
        if file.is_file():
            file.unlink()
    with pytest.raises(DataError, match=r"better: reports/predictions/test.parquet is not in DVC's cache .*`dvc pull`"):
        main(["reports/predictions/test.parquet", "better"])
