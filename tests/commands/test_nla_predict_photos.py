"""`nla predict` on photos: drawn faces, found by dlib, against the predictor on the crops themselves."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from mlflow_parts import CLASSES, random_model
from photo_parts import drawn_face, overlap, photo, write_photo
from predict_parts import predicted

from nla.commands.predict import UNCERTAIN, main
from nla.data.images import decode
from nla.errors import CommandError, DataError, WeightsError
from nla.faces.choice import open_detector
from nla.faces.crop import FERPLUS, Crop, crop_face, read_crop
from nla.faces.detector import Face
from nla.faces.photo import AS_SMALL, FULL, NONE
from nla.serving.noted_crop import note_crop
from nla.serving.predictor import DRAWN, Predictor

pytestmark = pytest.mark.usefixtures("only_dlib")
P = [f"p_{name}" for name in CLASSES]
COLUMNS = ["path", "face", "left", "top", "width", "height", "score", "label", "confidence", "ambiguity", *P, "note"]
PLACES = [(40, 60, 150), (380, 40, 110), (250, 300, 130)]


def test_a_row_for_each_face_as_the_predictor_has_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = photo(640, 480, PLACES)
    write_photo("photos/group.png", pixels)
    write_photo("photos/nobody.png", photo(300, 200, []))
    write_photo("photos/single.png", photo(400, 300, PLACES[:1]))
    table = predicted("photos")
    assert list(table) == COLUMNS
    assert table.path.tolist() == ["photos/group.png"] * 3 + ["photos/nobody.png", "photos/single.png"]
    assert table.face.tolist()[:3] == [0, 1, 2] and table.face[4] == 0
    faces = open_detector("dlib").detect(pixels)
    expected = Predictor.load("models").predict([crop_face(pixels, face, FERPLUS["dlib"]) for face in faces])
    assert tuple(table.label[:3]) == expected.label
    np.testing.assert_allclose(table[P][:3], expected.probabilities, atol=1e-6)
    np.testing.assert_allclose(table.confidence[:3], expected.probabilities.max(1), atol=1e-6)
    np.testing.assert_allclose(table.ambiguity[:3], expected.ambiguity, atol=1e-6)
    for place in PLACES:
        boxes = [Face(*row) for row in table[:3][["left", "top", "width", "height", "score"]].to_numpy()]
        assert max(overlap(box, place) for box in boxes) > 0.4
    empty = table.loc[3]
    assert empty.note == NONE and empty[COLUMNS[1:-1]].isna().all()
    said = capsys.readouterr()
    assert said.out.endswith("3 images, 4 faces, 1 without a face: out.csv\n")
    assert said.err.count("\n") == 1 and "card does not say how its training faces were cropped" in said.err


def test_crops_in_a_folder_of_photos_stay_whole(here: Path) -> None:
    write_photo("a.png", drawn_face(1, 160))
    write_photo("b.png", drawn_face(1, 48))
    table = predicted("a.png", "b.png")
    assert table.note.tolist() == [FULL, AS_SMALL] and table.left.isna().all() and table.face.tolist() == [0, 0]
    whole = Predictor.load("models").predict([drawn_face(1, 160), drawn_face(1, 48)])
    np.testing.assert_allclose(table[P], whole.probabilities, atol=1e-6)


def test_a_model_of_drawn_faces_says_so_in_every_answer(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_model(here / "drawn")
    write_photo("photos/face.png", photo(400, 300, PLACES[:1]))
    write_photo("photos/nobody.png", photo(300, 200, []))
    write_photo("photos/small.png", drawn_face(1, 48))
    table = predicted("photos", "--model", "drawn")
    assert table.note.tolist() == [DRAWN, NONE, f"{AS_SMALL}; {DRAWN}"]
    assert capsys.readouterr().err.splitlines()[-1] == f"warning: {DRAWN}"
    others = predicted("photos")
    assert others.note.fillna("").tolist() == ["", NONE, AS_SMALL]
    assert DRAWN not in capsys.readouterr().err


def test_cropped_asks_no_detector(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = photo(640, 480, PLACES)
    write_photo("a.png", pixels)
    monkeypatch.setattr("nla.faces.photo.open_detector", None)
    table = predicted("a.png", "--cropped")
    assert len(table) == 1 and table.note.isna().all() and table.left.isna().all()
    np.testing.assert_allclose(table[P], Predictor.load("models").predict([pixels]).probabilities, atol=1e-6)


def test_photographs_are_turned_upright(here: Path) -> None:
    """The box of a photo that lies on its side, with a tag that says so, is in the pixels of the upright photo."""
    upright = photo(640, 480, PLACES[:1])
    jpeg = cv2.imencode(".jpg", np.rot90(upright))[1].tobytes()  # rotated by 90 degrees against the clock
    tag = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # 6: turn it with the clock
    Path("a.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + (len(tag) + 2).to_bytes(2, "big") + tag + jpeg[2:])
    (row,) = predicted("a.jpg").itertuples()
    assert overlap(Face(row.left, row.top, row.width, row.height, 1.0), PLACES[0]) > 0.4


def test_a_face_cut_by_the_edge_is_cropped_with_repeated_pixels(here: Path) -> None:
    pixels = photo(640, 480, [(-35, 150, 150)])
    write_photo("a.png", pixels)
    faces = open_detector("dlib").detect(pixels)
    table = predicted("a.png")
    assert len(table) == max(len(faces), 1)
    crops = [crop_face(pixels, face, FERPLUS["dlib"]) for face in faces]
    assert all(crop.shape[0] == crop.shape[1] for crop in crops)
    np.testing.assert_allclose(table[P].dropna(), Predictor.load("models").predict(crops).probabilities, atol=1e-6)


def test_many_faces(here: Path) -> None:
    places = [(20 + 140 * i, 20 + 140 * j, 120) for i in range(6) for j in range(4)]
    write_photo("a.png", photo(900, 620, places))
    table = predicted("a.png")
    assert len(table) == len(places) and table.face.tolist() == list(range(len(places)))


def test_an_uncertain_face_is_called_so_and_keeps_its_numbers(here: Path) -> None:
    write_photo("a.png", photo(640, 480, PLACES))
    plain = predicted("a.png")
    bound = float(np.mean(sorted(plain.confidence)[:2]))
    table = predicted("a.png", "--at-least", str(bound))
    is_certain = plain.confidence >= bound
    assert table.label.tolist() == plain.label.where(is_certain, UNCERTAIN).tolist()
    assert UNCERTAIN in table.label.tolist() and not (table.label == UNCERTAIN).all()
    pd.testing.assert_frame_equal(table.drop(columns="label"), plain.drop(columns="label"))


def test_the_formats_say_the_same(here: Path) -> None:
    write_photo("photos/a.png", photo(640, 480, PLACES))
    write_photo("photos/b.png", photo(300, 200, []))
    table = predicted("photos")
    main(["photos", "--out", "out.jsonl"])
    main(["photos", "--out", "out.PARQUET"])
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [list(row) for row in rows] == [COLUMNS] * 4
    assert rows[3]["label"] is None and rows[0]["face"] == 0 and rows[0]["note"] is None
    for other in (pd.DataFrame(rows), pd.read_parquet("out.PARQUET")):
        pd.testing.assert_frame_equal(other, table, check_dtype=False, check_exact=False, atol=1e-6)


def test_another_suffix_is_refused_before_work(here: Path) -> None:
    with pytest.raises(CommandError, match=r"out\.xls: unsupported file format .*Use \.csv, \.jsonl, \.parquet, or -"):
        main(["nothing-there.png", "--out", "out.xls"])


def test_an_error_leaves_no_file(here: Path) -> None:
    Path("a.png").write_bytes(b"no image")
    for out in ("o.csv", "o.jsonl", "o.parquet"):
        with pytest.raises(DataError):
            main(["a.png", "--out", out])
    assert sorted(path.name for path in here.iterdir()) == ["a.png", "models"]


def test_without_a_detector_both_remedies_are_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photo("a.png", photo(640, 480, PLACES))
    monkeypatch.setattr("nla.faces.dlib_hog.is_installed", lambda: False)
    with pytest.raises(CommandError, match=r"nla detector get.*\[faces\].*--cropped"):
        main(["a.png"])
    with pytest.raises(WeightsError, match="nla detector get"):
        main(["a.png", "--detector", "yunet"])
    assert not Path("predictions.csv").exists()


def test_the_crop_can_be_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = photo(640, 480, PLACES)
    write_photo("a.png", pixels)
    Path("crop.json").write_text('{"detector": "dlib", "margin": 0.5, "down": 0.1}')
    table = predicted("a.png", "--crop", "crop.json")
    assert capsys.readouterr().err == ""
    faces = open_detector("dlib").detect(pixels)
    wide = [crop_face(pixels, face, Crop("dlib", 0.5, 0.1)) for face in faces]
    assert wide[0].shape[0] == 2 * faces[0].width
    np.testing.assert_allclose(table[P], Predictor.load("models").predict(wide).probabilities, atol=1e-6)


def test_the_models_card_can_have_the_crop(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photo("a.png", photo(640, 480, PLACES))
    Path("crop.json").write_text('{"detector": "dlib", "margin": 0.5, "down": 0.1}')
    expected = predicted("a.png", "--crop", "crop.json")
    note_crop("models", read_crop(Path("crop.json")))
    capsys.readouterr()
    pd.testing.assert_frame_equal(predicted("a.png"), expected)
    assert capsys.readouterr().err == ""
    card = json.loads(Path("models/model.json").read_text())
    del card["checksum"]
    Path("models/model.json").write_text(json.dumps(card | {"crop": {"detector": "dlib"}}))
    with pytest.raises(WeightsError, match=r"card: crop: margin: field required"):
        main(["a.png"])


@pytest.mark.parametrize(("width", "height"), [(120, 90), (640, 480), (3000, 2000)])
def test_pictures_have_boxes_and_labels_that_can_be_read(here: Path, width: int, height: int) -> None:
    side = min(width, height) * 2 // 3
    pixels = photo(width, height, [(width // 4, height // 6, side)])
    write_photo("a.png", pixels)
    (row,) = predicted("a.png", "--draw", "drawn").itertuples()
    picture = decode(Path("drawn/a.png").read_bytes())
    factor = picture.shape[0] // height
    assert picture.shape == (height * factor, width * factor, 3) and max(picture.shape) >= 640
    blue = (picture == (0, 90, 160)).all(-1)
    if not np.isnan(row.left):  # the middle of each side of the box
        x, y = (row.left + row.width / 2) * factor, (row.top + row.height) * factor
        around = blue[max(round(y) - 15, 0) : round(y) + 16, min(max(round(x), 0), blue.shape[1] - 1)]
        assert around.any()
    assert blue.sum(1).max() >= 60, "a label"
    assert (picture == 255).all(-1).sum() > 100, "its letters"


def test_pictures_of_the_same_name_and_of_crops_and_of_nobody(here: Path) -> None:
    write_photo("one/a.jpg", photo(640, 480, PLACES))
    write_photo("two/a.jpg", photo(300, 200, []))
    write_photo("two/deep/A.JPG", photo(400, 300, PLACES[:1]))
    write_photo("two/a.png", drawn_face(0, 48))
    predicted("one", "two", "--draw", "drawn")
    assert sorted(path.name for path in Path("drawn").iterdir()) == ["A-3.jpg", "a-2.jpg", "a.jpg", "a.png"]
    assert decode(Path("drawn/a.png").read_bytes()).shape == (48 * 14, 48 * 14, 3)


def test_pictures_never_replace_photos(here: Path) -> None:
    path = write_photo("photos/deep/a.png", photo(640, 480, PLACES))
    before = path.read_bytes()
    with pytest.raises(CommandError, match=r"--draw: photos/deep/a\.png lies in this folder"):
        main(["photos", "--draw", "photos/deep"])
    assert path.read_bytes() == before and not Path("predictions.csv").exists()


@pytest.mark.parametrize("share", ["1.1", "-0.1", "nan", "half"])
def test_a_share_is_from_0_to_1(here: Path, share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["a.png", f"--at-least={share}"])
    assert "is not a number from 0 to 1" in capsys.readouterr().err
