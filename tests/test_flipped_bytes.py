"""One other byte, anywhere in a file that is read back, is noticed: an error or a line names the file.

Not so in files that people edit, where another digit is another value: params.yaml, grid.yaml, best.yaml, and
metrics.json, which DVC shows.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from edited_files import KINDS, PARAMS, Kind

from nla.config.data import DataConfig
from nla.data.images import encode_png
from nla.data.ingest import ingest
from nla.data.prepare import prepare
from nla.data.samples import load_samples
from nla.data.schema import read_faces
from nla.data.sources import open_source
from nla.errors import DataError, NLAError, user_message
from nla.io import read_json_as, write_json, write_table
from nla.seals import check_table, seal_table

QUICK, MANY = 10, 100
FOR_PEOPLE = (PARAMS, "grid.yaml", "best.yaml", "metrics.json")


def write_faces(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for split, name in ((split, name) for split in ("train", "test") for name in ("glad", "sad")):
        for number in range(4):
            path = folder / f"raw/{split}/{name}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(rng.integers(0, 256, (16, 16), np.uint8)))
    ingest(open_source(DataConfig(source="folder"), folder / "raw"), folder / "faces.parquet", on_bad="error")


def write_prepared(folder: Path) -> None:
    with TemporaryDirectory() as above:
        write_faces(Path(above))
        prepare(Path(above, "faces.parquet"), folder, DataConfig(source="folder", image_size=16))


FLIPPED = [
    *(kind for kind in KINDS if kind.name not in FOR_PEOPLE),
    Kind("faces.parquet", write_faces, lambda folder: read_faces(folder / "faces.parquet")),
    Kind("train.parquet", write_prepared, lambda folder: load_samples(folder / "train.parquet")),
]


def not_noticed(kind: Kind, flips: int, seed: int, root: Path, capsys: pytest.CaptureFixture[str]) -> list[int]:
    """Positions of other bytes that reading does not notice."""
    folder = root / "files"
    folder.mkdir()
    kind.write(folder)
    (path,) = folder.rglob(kind.name)
    content, rng, missed = path.read_bytes(), random.Random(f"{kind.name} {seed}"), []
    kind.read(folder)
    assert not "".join(capsys.readouterr())
    for _ in range(flips):
        at = rng.randrange(len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ rng.randrange(1, 256)]) + content[at + 1 :])
        try:
            kind.read(folder)
            said = "".join(capsys.readouterr())
        except (NLAError, OSError) as error:
            said = user_message(error)
        if kind.name not in said and path.with_suffix(".safetensors").name not in said:
            missed.append(at)
    return missed


@pytest.mark.parametrize("kind", FLIPPED, ids=lambda kind: kind.name)
def test_another_byte_is_noticed(tmp_path: Path, kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    assert not_noticed(kind, QUICK, 0, tmp_path, capsys) == []


def test_a_damaged_table_is_one_line_for_each_reader(tmp_path: Path) -> None:
    write_faces(tmp_path)
    path = tmp_path / "faces.parquet"
    content = path.read_bytes()
    for at in range(len(content) - 2000, len(content), 20):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        with pytest.raises(DataError, match=r"faces\.parquet"):
            read_faces(path)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", FLIPPED, ids=lambda kind: kind.name)
def test_a_hundred_other_bytes_are_noticed(tmp_path: Path, kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    assert not_noticed(kind, MANY, 1, tmp_path, capsys) == []


def test_every_byte_of_a_small_file_counts(tmp_path: Path) -> None:
    table, record = tmp_path / "t.parquet", tmp_path / "r.json"
    write_table(table, pa.table({"x": [1.5, 2.5]}))
    write_json(record, {"x": [1.5, 2.5]}, sealed=True)
    for path in (table, record):
        content = path.read_bytes()
        for at in range(len(content)):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            with pytest.raises((NLAError, pa.ArrowException, OSError)):
                if path == record:
                    read_json_as(record, dict[str, list[float]])
                else:
                    with table.open("rb") as file:
                        check_table(file, table, "Make it again.")
                    pq.read_table(table)


def test_a_sealed_table_is_one_for_all_readers_and_for_one_who_writes_it_again(tmp_path: Path) -> None:
    path, table = tmp_path / "t.parquet", pa.table({"x": range(5000)})
    write_table(path, table)
    assert pq.read_table(path).equals(table) and pq.ParquetFile(path, memory_map=True).read().equals(table)
    written = path.read_bytes()
    pq.write_table(pq.read_table(path), path, compression="zstd")
    assert len(written) == path.stat().st_size + 42
    with path.open("rb") as file:
        check_table(file, path, "")  # no seal
    seal_table(path)
    assert path.read_bytes() == written


def test_a_checksum_that_an_edit_on_purpose_removes(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_json(path, {"x": 1}, sealed=True)
    text = path.read_text()
    assert read_json_as(path, dict[str, int]) == {"x": 1} and list(json.loads(text)) == ["x", "checksum"]
    path.write_text(text.replace("1,", "2,"))
    with pytest.raises(DataError, match=r"r\.json: checksum: does not match .* on purpose, remove the field\.$"):
        read_json_as(path, dict[str, int])
    path.write_text('{"x": 2}')
    assert read_json_as(path, dict[str, int]) == {"x": 2}
