"""A list of images with labels, or with votes, from files that each test writes."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.config.data import DataConfig
from nla.data.images import encode_png
from nla.data.ingest import ingest
from nla.data.prepare import prepare
from nla.data.schema import FACES
from nla.data.sources import open_source
from nla.data.sources.base import Findings
from nla.errors import DataError

CONFIG = DataConfig(source="csv", image_size=16)


def listed(root: Path, text: str, *images: str) -> Path:
    """A folder with this list, and `images` that differ."""
    for i, path in enumerate(images):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_png(np.full((16, 16), i, np.uint8)))
    (root / "faces.csv").write_text(text)
    return root


def read(root: Path) -> tuple[pa.Table, Findings]:
    findings = Findings()
    batches = list(open_source(CONFIG, root).batches(findings))
    return pa.Table.from_batches(batches, FACES), findings


def test_labels(tmp_path: Path) -> None:
    """Columns in any order, others beside them, splits by all their names, and a blank line."""
    text = "who,label,image,split\nx,sad,a/1.png,Train\nx,glad, b.png ,train\n\nx,sad,c.png,val\nx,glad,d.png,test\n"
    root = listed(tmp_path, text, "a/1.png", "b.png", "c.png", "d.png", "spare.png")
    faces, findings = read(root)
    unlisted = "images not read, because faces.csv does not name them: 1, in the folder itself (1)"
    assert findings == Findings(warnings=[unlisted])
    assert open_source(CONFIG, root).classes == ("glad", "sad") and open_source(CONFIG, root).votes == ()
    assert faces["row"].to_pylist() == [0, 1, 2, 3]
    assert faces["label"].to_pylist() == [1, 0, 1, 0]
    assert faces["split"].to_pylist() == ["train", "train", "valid", "test"]
    assert [image["path"] for image in faces["image"].to_pylist()] == ["a/1.png", "b.png", "c.png", "d.png"]
    assert faces["votes"].null_count == 4


def test_votes(tmp_path: Path) -> None:
    """What is no class comes last, wherever it stands in the list."""
    text = "image,split,glad,NF,sad\na.png,train,3,0,7\nb.png,test,10,1,0\n"
    faces, findings = read(listed(tmp_path, text, "a.png", "b.png"))
    assert findings == Findings(notes=["columns of faces.csv taken as classes: glad, sad"])
    source = open_source(CONFIG, tmp_path)
    assert source.classes == ("glad", "sad") and source.votes == ("glad", "sad", "NF")
    assert faces["votes"].to_pylist() == [[3, 7, 0], [10, 0, 1]]
    assert faces["label"].null_count == 2


def test_votes_all_the_way_to_the_targets_of_training(tmp_path: Path) -> None:
    rows = [f"{i}.png,{'test' if i % 4 == 0 else 'train'},{i % 10},{10 - i % 10}" for i in range(40)]
    root = listed(tmp_path / "csv", "\n".join(["image,split,glad,sad", *rows]), *(f"{i}.png" for i in range(40)))
    ingest(open_source(CONFIG, root), tmp_path / "faces.parquet", on_bad="error")
    prepare(tmp_path / "faces.parquet", tmp_path, CONFIG.model_copy(update={"label_rule": "votes"}))
    train = pq.read_table(tmp_path / "train.parquet")
    for row, target in zip(train["row"].to_pylist(), train["target"].to_pylist(), strict=True):
        assert target == pytest.approx([row % 10 / 10, 1 - row % 10 / 10])


def test_a_bad_line_makes_no_class(tmp_path: Path) -> None:
    text = "image,split,label\n../a.png,train,mad\nb.png,train,sad\nc.png,test,sad\n"
    read(listed(tmp_path, text, "b.png", "c.png"))
    assert open_source(CONFIG, tmp_path).classes == ("sad",)


def test_as_a_spreadsheet_writes_it(tmp_path: Path) -> None:
    """With a byte order mark, CRLF, quotes, commas and line breaks in cells; a line is where its row ends."""
    rows = ["image,split,label,note", '"a, b.png",train,"sad, very","one\r\ntwo"', "c.png,test,glad,", "d.png,no,glad,"]
    listed(tmp_path, "", "a, b.png", "c.png", "d.png")
    (tmp_path / "faces.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    faces, findings = read(tmp_path)
    assert open_source(CONFIG, tmp_path).classes == ("sad, very",)
    assert faces["image"].to_pylist()[0]["path"] == "a, b.png"
    assert sorted((problem.line, problem.what[:14]) for problem in findings.problems) == [
        (4, "train has no l"),
        (5, "split is 'no',"),
    ]


CELL = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(["train", "test", "a.png", "3"])


@given(
    head=st.sampled_from(["image,split,label", "image,split,glad,sad", "image,split", ""]) | st.text(max_size=20),
    lines=st.lists(st.lists(CELL, min_size=2, max_size=4).map(",".join), max_size=5),
)
def test_whatever_it_holds_is_read_or_refused_by_name(head: str, lines: list[str]) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "faces.csv").write_text("\n".join([head, *lines]), encoding="utf-8")
        with contextlib.suppress(DataError):
            _, findings = read(Path(folder))
            assert all(problem.file and problem.what for problem in findings.problems)


def test_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "faces.csv").write_bytes("image,split,label\na.png,train,fröhlich\n".encode("latin-1"))
    with pytest.raises(DataError, match="not CSV in UTF-8"):
        open_source(CONFIG, tmp_path)


@pytest.mark.slow
@pytest.mark.thorough
def test_ferplus_by_a_list_is_ferplus(ferplus_dir: Path, tmp_path: Path) -> None:
    source = open_source(DataConfig(source="ferplus"), ferplus_dir)
    faces = pa.Table.from_batches(list(source.batches(Findings())))
    (tmp_path / "faces").mkdir()
    lines = [",".join(["image", "split", *source.votes])]
    for row in faces.select(["row", "split", "votes", "image"]).to_pylist():
        image = f"faces/{row['row']}.png"
        (tmp_path / image).write_bytes(row["image"]["bytes"])
        lines.append(",".join([image, row["split"], *map(str, row["votes"])]))
    again, findings = read(listed(tmp_path, "\n".join(lines)))
    assert findings.problems == findings.warnings == []
    assert open_source(CONFIG, tmp_path).classes == source.classes
    own = ["image", "fer2013_label"]  # the paths of the images differ, and a list has no labels of FER2013
    assert again.drop_columns(own).equals(faces.drop_columns(own))


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (",train,sad", "it names no image"),
        ("../a.png,train,sad", r"\.\./a.png is not below the folder"),
        ("/a.png,train,sad", "/a.png is not below the folder"),
        ("a/../../b.png,train,sad", "a/../../b.png is not below the folder"),
        ("ok.png,test,sad", "ok.png is listed twice, in line 2 too"),
        ("./a//../ok.png,test,sad", r"\./a//\.\./ok.png is listed twice, in line 2 too"),
        ("a.png,dev,sad", "split is 'dev', not train, valid or test"),
        ("a.png,,sad", "split is '', not train"),
        ("a.png,test,glad", r"train has no label 'glad' \(it has mad, sad\)"),
        ("a.png,train,", "it has no label"),
        ("a.png,train", "2 instead of 3 values"),
        ("missing.png,train,sad", "missing.png is listed but missing"),
    ],
)
def test_a_bad_line_is_named_and_the_others_go_on(tmp_path: Path, line: str, what: str) -> None:
    text = f"image,split,label\nok.png,train,sad\n{line}\nz.png,test,mad\ny.png,train,mad\n"
    faces, findings = read(listed(tmp_path, text, "ok.png", "a.png", "y.png", "z.png"))
    (problem,) = findings.problems
    assert (problem.file, problem.line) == ("faces.csv", 3)
    assert re.match(what, problem.what)
    assert faces["row"].to_pylist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("votes", "what"),
    [
        ("0,0", "all votes are zero"),
        ("1.5,2", r"glad is '1\.5': votes are whole numbers from 0 to 9999"),
        ("-1,10000", r"glad is '-1', sad is '10000': votes"),
        (",3", "glad is '': votes"),
        ("1,²", "sad is '²': votes"),
        ("1," + 5000 * "9", "sad is '9"),
    ],
)
def test_bad_votes(tmp_path: Path, votes: str, what: str) -> None:
    _, findings = read(listed(tmp_path, f"image,split,glad,sad\na.png,train,{votes}\n", "a.png"))
    (problem,) = findings.problems
    assert re.match(what, problem.what)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,label\na.png,sad\n",
            r"has no column split \(it has 'image', 'label'\): it needs image,split,label, or",
        ),
        ("image;split;label\na.png;train;sad\n", "has no column image and split .* with commas between"),
        ("image,split\na.png,train\n", "has neither labels in train nor columns of votes"),
        ("image,split,label\na.png,test,sad\n", "has neither labels in train nor columns of votes"),
        ("image,split," + ",".join(map(str, range(128))) + "\n", "has 128 classes: at most 127"),
        ("", r"has no column image and split \(it has none\)"),
        (",image,split,glad,sad\n0,a.png,train,1,2\n", "has a column without a name. Remove it, or name it in line 1."),
        ("image,split,glad,sad,\na.png,train,1,2,\n", "has a column without a name"),
        ("image,split,glad,glad\na.png,train,1,2\n", "has two columns glad. Remove one."),
        ("image,split,Label\na.png,train,sad\n", "has a column Label: write label if that is meant"),
        ("image,split,glad,nf\na.png,train,1,2\n", "has a column nf: write NF if that is meant"),
        (
            'image,split,label\na.png,train,"sad\n',
            r"csv, after line 2: not CSV in UTF-8 \(.*\)\. Save it as such",
        ),
    ],
)
def test_a_list_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(CONFIG, listed(tmp_path, text))


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"faces\.csv is missing\nWrite it, with image,split,label, or"):
        open_source(CONFIG, tmp_path)


def test_bad_lines_come_with_the_classes_that_they_cost(tmp_path: Path) -> None:
    """As written from FER2013: its names of splits; then with one class left."""
    lines = [f"{i}.png,{usage},sad" for i, usage in enumerate(["Training", "PublicTest", "PrivateTest"] * 4)]
    for more, classes in (([], "none"), (["a.png,train,glad"], "glad")):
        root = listed(tmp_path, "\n".join(["image,split,label", *lines, *more, "/x/1.png,train,sad", ""]), "a.png")
        with pytest.raises(DataError) as raised:
            ingest(open_source(CONFIG, root), tmp_path / "faces.parquet", on_bad="quarantine")
        first, *named = str(raised.value).splitlines()
        assert first == (
            f"csv: expected two classes or more (got {classes}). Fix the bad rows or files. See docs/datasets.md."
        )
        assert named[:2] == [
            f"  faces.csv, line {line}: split is {usage!r}, not train, valid or test"
            for line, usage in ((2, "Training"), (3, "PublicTest"))
        ]
        assert named[-1] == (
            f"  faces.csv, line {14 + len(more)}: /x/1.png is not below the folder of the list: DVC would not see it "
            "change"
        )
