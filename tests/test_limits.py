"""What is larger than the limits of nla/limits.py is refused in one line before it takes time or memory, everywhere."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow_parts import random_model

from nla.commands.attention import main as attention
from nla.commands.labelled_set import open_set
from nla.commands.predict import main as predict
from nla.config.base import section
from nla.config.data import DataConfig, SourceName
from nla.data.arrays import make_samples
from nla.data.images import encode_png
from nla.data.sources import open_source
from nla.data.sources.base import Findings
from nla.data.sources.ferplus import VOTES
from nla.errors import ConfigError, DataError, WeightsError
from nla.io import read_columns, read_json_as
from nla.limits import MAX_COLUMNS, MAX_IMAGE_BYTES, MAX_LINE, ImageLimits
from nla.models.saved_model import read_card
from nla.serving.base64_images import image_content
from nla.serving.predictor import Predictor

GREY = encode_png(np.zeros((16, 16), np.uint8))
TOO_LARGE = r"the file has 64,000,000,000 bytes, more than max_image_bytes, 50,000,000\. Shrink it"


def huge(path: Path) -> Path:
    """A file of 64 GB that takes no space: no machine of a test could read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(GREY)
        file.truncate(64_000_000_000)
    return path


def folder(root: Path) -> Path:
    return root / "train/sad/1.png"


def csv_list(root: Path) -> Path:
    (root / "faces.csv").write_text("image,split,label\n1.png,train,sad\n2.png,train,happy\n")
    (root / "2.png").write_bytes(GREY)
    return root / "1.png"


def rafdb(root: Path) -> Path:
    (root / "EmoLabel").mkdir()
    (root / "EmoLabel/list_patition_label.txt").write_text("train_1.jpg 1\n")
    return root / "Image/aligned/train_1_aligned.jpg"


def affectnet(root: Path) -> Path:
    header = "subDirectory_filePath,expression\n"
    (root / "training.csv").write_text(f"{header}1/1.jpg,0\n")
    (root / "validation.csv").write_text(header)
    return root / "Manually_Annotated_Images/1/1.jpg"


LAYOUTS: dict[SourceName, Callable[[Path], Path]] = {
    "folder": folder,
    "csv": csv_list,
    "rafdb": rafdb,
    "affectnet": affectnet,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_huge_image_file_is_a_bad_row_of_every_source(tmp_path: Path, name: SourceName) -> None:
    path = huge(LAYOUTS[name](tmp_path))
    (tmp_path / "test/sad").mkdir(parents=True)
    findings = Findings()
    list(open_source(DataConfig(source=name), tmp_path).batches(findings))
    (problem,) = findings.problems
    assert problem.file == path.relative_to(tmp_path).as_posix() and problem.what in TOO_LARGE.replace("\\", "")


def test_the_limit_of_a_file_is_a_parameter(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "sad").mkdir(parents=True)
        (tmp_path / split / "sad/1.png").write_bytes(GREY)
    for size, bad in ((len(GREY), 0), (len(GREY) - 1, 2)):
        findings = Findings()
        config = DataConfig(source="folder").model_copy(update={"max_image_bytes": size})
        list(open_source(config, tmp_path).batches(findings))
        assert len(findings.problems) == bad


def test_commands_leave_a_huge_image_file_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(random_model(tmp_path))
    huge(tmp_path / "set/sad/1.png")
    for command, out in ((predict, "out.csv"), (attention, "out.png")):
        with pytest.raises(DataError, match=TOO_LARGE):
            command([str(tmp_path / "set"), "--model", model, "--out", str(tmp_path / out)])
    (image,) = open_set(tmp_path / "set").images()
    with pytest.raises(DataError, match=TOO_LARGE):
        image.read(ImageLimits())


def test_fit_refuses_a_huge_image_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image 0: the file has 64,000,000,000 bytes"):
        make_samples([huge(tmp_path / "1.png")], [0], image_size=16)


def test_a_predictor_refuses_long_images_by_its_limits(tmp_path: Path) -> None:
    random_model(tmp_path)
    assert Predictor.load(tmp_path).limits == ImageLimits()
    strict = Predictor.load(tmp_path, limits=ImageLimits(max_bytes=len(GREY) - 1))
    with pytest.raises(DataError, match=rf"image 0: the file has {len(GREY)} bytes, more than max_image_bytes"):
        strict.predict([GREY])
    with pytest.raises(DataError, match=r"image 0: the image has 16 x 16 pixels, more than max_pixels, 255"):
        Predictor.load(tmp_path, limits=ImageLimits(255)).predict([GREY])


def test_a_served_model_does_not_decode_longer_text_than_of_an_image() -> None:
    with pytest.raises(DataError, match=r"image 3: the file has 50,000,004 bytes, more than max_image_bytes"):
        image_content(3, "A" * (MAX_IMAGE_BYTES // 3 + 2) * 4, ImageLimits())
    assert len(image_content(0, "A" * (MAX_IMAGE_BYTES // 3) * 4, ImageLimits())) == MAX_IMAGE_BYTES // 3 * 3


@pytest.mark.parametrize("size", [64, 65, 66])
def test_the_text_of_an_image_is_measured_by_what_it_stands_for(size: int) -> None:
    """However it is written: by padding, line breaks and the head of an address it is longer."""
    data = bytes(range(size))
    text = base64.b64encode(data).decode()
    lines = "\r\n".join(text[at : at + 4] for at in range(0, len(text), 4))
    for way in (text, text.rstrip("="), lines, f"data:image/png;base64,{text}", f" {text}\n", text.encode()):
        assert image_content(0, way, ImageLimits(max_bytes=size)) == data
        with pytest.raises(DataError, match=f"image 0: the file has {size} bytes, more than max_image_bytes, "):
            image_content(0, way, ImageLimits(max_bytes=size - 1))


def wide(root: Path, first: str, name: str, *others: str) -> None:
    """A CSV file of 20,002 columns or more, and `others` that are intact."""
    (root / name).write_text(f"{first},{','.join(f'c{i}' for i in range(20_000))}\n")
    for other in others:
        (root / other).write_text(f"{first}\n")


VOTE_COLUMNS = ",".join(("Usage", "Image name", *VOTES))
WIDE: dict[str, tuple[SourceName, str, tuple[str, ...]]] = {
    "a list": ("csv", "image,split", ("faces.csv",)),
    "the votes of FERPlus": ("ferplus", VOTE_COLUMNS, ("fer2013new.csv", "fer2013.csv")),
    "the pixels of FERPlus": ("ferplus", f"emotion,pixels,{VOTE_COLUMNS}", ("fer2013.csv", "fer2013new.csv")),
    "a list of AffectNet": ("affectnet", "subDirectory_filePath,expression", ("training.csv", "validation.csv")),
}


@pytest.mark.parametrize("kind", WIDE)
def test_a_list_of_too_many_columns_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    source, first, files = WIDE[kind]
    wide(tmp_path, first, *files)
    columns = f"{20_000 + first.count(',') + 1:,}"
    with pytest.raises(DataError, match=rf"{files[0]} has {columns} columns, more than data\.max_columns, 1,000\. "):
        list(open_source(DataConfig(source=source), tmp_path).batches(Findings()))
    with pytest.raises(DataError, match=r"columns, more than data\.max_columns, 20,001\. "):
        config = DataConfig(source=source).model_copy(update={"max_columns": 20_001})
        list(open_source(config, tmp_path).batches(Findings()))


@pytest.mark.parametrize("kind", WIDE)
def test_a_line_without_an_end_is_refused(tmp_path: Path, kind: str) -> None:
    source, first, files = WIDE[kind]
    for name in files:
        (tmp_path / name).write_text(f"{first}\n")
    (tmp_path / files[0]).write_text("x" * (MAX_LINE + 1))
    with pytest.raises(DataError, match=rf"{files[0]} has a line of more than {MAX_LINE:,} characters"):
        list(open_source(DataConfig(source=source), tmp_path).batches(Findings()))


def test_a_table_of_too_many_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.parquet"
    pq.write_table(pa.table({f"c{i}": [1] for i in range(MAX_COLUMNS + 1)}), path)
    with pytest.raises(DataError, match=r"test\.parquet: has 1,001 columns, more than 1,000\. Make it again\."):
        read_columns(path, pa.schema([("c0", pa.int64())]), path, "Make it again.")


def test_json_that_is_nested_too_deeply_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    for depth in (300, 100_000):
        path.write_text('{"a":' * depth + "1" + "}" * depth)
        with pytest.raises(
            DataError, match=r"model\.json: not valid JSON \(recursion limit exceeded[^\n]*\)\. [^\n]*$"
        ):
            read_json_as(path, dict[str, Any])
        with pytest.raises(WeightsError, match=r"model\.json: not valid JSON \(recursion limit exceeded"):
            read_card(tmp_path / "model.safetensors")


@pytest.mark.parametrize(("key", "value"), [("max_image_bytes", 0), ("max_columns", 1), ("max_pixels", 1.5)])
def test_limits_are_whole_numbers_that_leave_room_for_a_face(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{key}: "):
        section(DataConfig, {"data": {key: value}})
