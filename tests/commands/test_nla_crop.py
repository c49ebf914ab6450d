"""`nla crop`: the crops of drawn photos, by dlib, against the crop function; nothing is lost or half-written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from photo_parts import drawn_face, photo, write_photo

from nla.commands import crop as command
from nla.commands.crop import main
from nla.data.images import decode, fit
from nla.errors import CommandError, DataError
from nla.faces.choice import open_detector
from nla.faces.crop import FERPLUS, Crop, crop_face, read_crop

PLACES = [(40, 60, 110), (380, 40, 160)]


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NLA_DETECTORS", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)


def rows(path: str = "out/crops.csv") -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files(folder: str = "out") -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_class_folders_stay_and_the_largest_face_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    pixels = photo(640, 480, PLACES)
    write_photo("in/happy/a.png", pixels)
    write_photo("in/sad/deep/b.jpg", photo(400, 300, PLACES[:1]))
    write_photo("in/sad/nobody.png", photo(400, 300, []))
    main(["in", "out", "--size", "48"])
    assert files() == ["crop.json", "crops.csv", "happy/a.png", "sad/deep/b.png", "without_face.csv"]
    largest = max(open_detector("dlib").detect(pixels), key=lambda face: face.width)
    assert largest.left > 300
    expected = fit(crop_face(pixels, largest, FERPLUS["dlib"]), 48, "rgb")
    np.testing.assert_array_equal(decode(Path("out/happy/a.png").read_bytes()), expected)
    first, second = rows()
    assert first["crop"] == "happy/a.png" and first["photo"] == "in/happy/a.png" and second["crop"] == "sad/deep/b.png"
    box = [float(first[name]) for name in ("left", "top", "width", "height", "score")]
    assert box == pytest.approx([largest.left, largest.top, largest.width, largest.height, largest.score], abs=1e-3)
    assert rows("out/without_face.csv") == [{"photo": "in/sad/nobody.png"}]
    assert read_crop(Path("out/crop.json")) == FERPLUS["dlib"]
    said = capsys.readouterr()
    assert said.err.splitlines() == ["photos without a face, left out: 1", "  in/sad/nobody.png: no face found"]
    assert said.out.endswith("3 photos, 2 crops: out\n")


def test_all_faces_with_margins_of_ones_own() -> None:
    pixels = photo(640, 480, PLACES, colour=False)
    write_photo("in/a.png", pixels)
    main(["in", "out", "--all", "--margin", "0.4", "--down", "-0.1", "--format", "jpg"])
    assert files() == ["a-face0.jpg", "a-face1.jpg", "crop.json", "crops.csv"]
    own = Crop("dlib", 0.4, -0.1)
    assert read_crop(Path("out/crop.json")) == own
    for i, face in enumerate(open_detector("dlib").detect(pixels)):
        crop = decode(Path(f"out/a-face{i}.jpg").read_bytes())
        assert crop.shape == (112, 112)
        assert np.abs(crop.astype(int) - fit(crop_face(pixels, face, own), 112, "grey")).mean() < 4
    main(["in", "again", "--like", "out/crop.json", "--down", "0"])
    assert read_crop(Path("again/crop.json")) == Crop("dlib", 0.4, 0.0)


def test_photos_of_the_same_name_get_crops_of_their_own() -> None:
    for name in ("a.png", "a.jpg", "A.png"):
        write_photo(f"in/{name}", photo(400, 300, PLACES[:1]))
    main(["in", "out"])
    crops = [row["crop"] for row in rows()]
    assert len(set(map(str.casefold, crops))) == 3 and set(crops) < set(files())


def test_a_folder_is_replaced_only_if_told_and_only_an_earlier_result() -> None:
    write_photo("in/a.png", photo(400, 300, PLACES[:1]))
    main(["in", "out"])
    with pytest.raises(CommandError, match=r"out: the folder has an earlier result\. .*--overwrite"):
        main(["in", "out"])
    Path("in/a.png").rename("in/b.png")
    main(["in", "out", "--overwrite"])
    assert files() == ["b.png", "crop.json", "crops.csv"]
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years")
    with pytest.raises(CommandError, match=r"mine: the folder has other files"):
        main(["in", "mine", "--overwrite"])
    assert Path("mine/thesis.txt").read_text() == "years"
    with pytest.raises(CommandError, match="a file"):
        main(["in", "mine/thesis.txt"])
    Path("empty").mkdir()
    main(["in", "empty"])
    assert files("empty") == files()


@pytest.mark.parametrize("out", ["in", "in/crops", "."])
def test_crops_do_not_mix_with_photos(out: str) -> None:
    write_photo("in/a.png", photo(400, 300, PLACES[:1]))
    with pytest.raises(CommandError, match="one folder would lie in the other"):
        main(["in", out])
    assert files("in") == ["a.png"]


def test_an_error_leaves_the_earlier_result_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    write_photo("in/a.png", photo(400, 300, PLACES[:1]))
    main(["in", "out"])
    before = {name: Path("out", name).read_bytes() for name in files()}

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command, "write_json", fails)
    with pytest.raises(OSError, match="No space"):
        main(["in", "out", "--overwrite"])
    with pytest.raises(OSError, match="No space"):
        main(["in", "new"])
    assert {name: Path("out", name).read_bytes() for name in files()} == before
    assert sorted(path.name for path in Path().iterdir()) == ["in", "out"]


def test_no_photo_and_no_face_are_errors() -> None:
    with pytest.raises(DataError, match=r"in: no such folder\. Name a folder with photos"):
        main(["in", "out"])
    Path("in").mkdir()
    with pytest.raises(DataError, match="no images found"):
        main(["in", "out"])
    write_photo("in/a.png", photo(400, 300, []))
    with pytest.raises(DataError, match=r"in: no photo has a face\. Try another --detector"):
        main(["in", "out"])
    Path("in/a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"no image can be read"):
        main(["in", "out"])
    assert [path.name for path in Path().iterdir()] == ["in"]


def test_unreadable_photos_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    write_photo("in/a.png", photo(400, 300, PLACES[:1]))
    Path("in/b.png").write_bytes(b"no image")
    main(["in", "out"])
    assert "unreadable images, left out: 1\n  in/b.png: the file is damaged" in capsys.readouterr().err
    assert [row["photo"] for row in rows()] == ["in/a.png"]


def test_dlib_cannot_align() -> None:
    write_photo("in/a.png", drawn_face(0, 200))
    with pytest.raises(CommandError, match=r"--align: dlib gives no points"):
        main(["in", "out", "--align"])


@pytest.mark.parametrize(
    "option", [["--size", "8"], ["--size", "x"], ["--margin", "4"], ["--margin=-.5"], ["--down", "2"]]
)
def test_numbers_have_bounds(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["in", "out", *option])
    assert "number from" in capsys.readouterr().err


def test_the_written_crop_is_json_with_all_fields() -> None:
    write_photo("in/a.png", photo(400, 300, PLACES[:1]))
    main(["in", "out"])
    assert json.loads(Path("out/crop.json").read_text()) == {
        "detector": "dlib",
        "margin": FERPLUS["dlib"].margin,
        "down": FERPLUS["dlib"].down,
        "align": False,
    }
