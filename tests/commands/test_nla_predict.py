"""`nla predict` on files of crops: against the predictor itself."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from mlflow_parts import CLASSES, random_model

from nla.commands.predict import main
from nla.data.images import encode_png
from nla.errors import DataError, WeightsError
from nla.serving.predictor import BATCH, Predictor

P = [f"p_{name}" for name in CLASSES]
COLUMNS = ["path", "face", "left", "top", "width", "height", "score", "label", "confidence", "ambiguity", *P, "note"]


def face(path: str, seed: int = 0, *shape: int) -> bytes:
    """Writes a random image, by default grey of 20 pixels, and returns its bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, shape or (20, 20), np.uint8)
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    data = encode_png(pixels) if file.suffix == ".png" else cv2.imencode(file.suffix.lower(), pixels)[1].tobytes()
    file.write_bytes(data)
    return data


def test_files_and_folders_in_sorted_order_as_the_predictor_has_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {
        "faces/b.png": face("faces/b.png", 1),
        "faces/deep/c.bmp": face("faces/deep/c.bmp", 3),
        "faces/deep/er/a.JPG": face("faces/deep/er/a.JPG", 2, 30, 40, 3),
        "one.webp": face("one.webp", 4, 9, 9, 3),
    }
    for other in ("faces/.hidden.png", "faces/.cache/d.png", "elsewhere/e.png"):
        face(other)
    Path("faces/notes.txt").write_text("no image")
    main(["one.webp", "faces", "faces/deep/c.bmp"])
    table = pd.read_csv("predictions.csv")
    expected = Predictor.load("models").predict(list(data.values()))
    assert list(table) == COLUMNS
    assert table.path.tolist() == list(data)
    assert tuple(table.label) == expected.label
    assert np.ptp(expected.probabilities, axis=0).max() > 0.1, "all answers alike would show no order"
    np.testing.assert_allclose(table.ambiguity, expected.ambiguity, atol=1e-6)
    np.testing.assert_allclose(table[P], expected.probabilities, atol=1e-6)
    said = capsys.readouterr()
    assert "4/4" in said.out and said.out.endswith("4 images, 4 faces: predictions.csv\n")
    other = "files not read, because their suffix is not .jpg, .jpeg, .png, .bmp, .webp: 1 .txt, in the folder itself"
    assert said.err == f"warning: faces: {other} (1)\n"


def test_colour_models_take_grey_files(here: Path) -> None:
    data = [face("faces/a.png", 1), face("faces/b.png", 2, 16, 16, 3)]
    random_model(here / "models", channels=3)
    main(["faces"])
    expected = Predictor.load("models").predict(data).probabilities
    np.testing.assert_allclose(pd.read_csv("predictions.csv")[P], expected, atol=1e-6)


def test_more_images_than_a_batch(here: Path) -> None:
    data = [face(f"faces/{i:04}.png", i) for i in range(BATCH + 3)]
    main(["faces", "--out", "new/folder/out.csv"])
    table = pd.read_csv("new/folder/out.csv")
    assert table.path.tolist() == [f"faces/{i:04}.png" for i in range(BATCH + 3)]
    np.testing.assert_allclose(table[P], Predictor.load("models").predict(data).probabilities, atol=1e-5)


def test_what_cannot_be_read_is_left_out_and_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = face("faces/b.png")
    Path("faces/a.png").write_bytes(good[:-20])
    Path("faces/folder.png").mkdir()
    for i in range(10):
        Path(f"faces/c{i}.jpg").touch()
    main(["faces"])
    assert pd.read_csv("predictions.csv").path.tolist() == ["faces/b.png"]
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert lines[:2] == ["unreadable images, left out: 12", "  faces/a.png: the PNG is cut off"]
    assert lines[2:11] == [f"  faces/c{i}.jpg: the file is empty" for i in range(9)]
    assert lines[11:] == ["  and 2 more"]
    assert "13/13" in said.out and said.out.endswith("1 images, 1 faces: predictions.csv\n")


def test_none_that_can_be_read_is_an_error_and_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("face.png").write_bytes(b"no image")
    for out in ("out.csv", "-"):
        with pytest.raises(DataError, match=r"no image can be read\. .*\n  face.png: the file is damaged or not"):
            main(["face.png", "--out", out])
    assert sorted(path.name for path in here.iterdir()) == ["face.png", "models"]
    assert "p_neutral" not in capsys.readouterr().out


def test_standard_output_has_the_rows_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    face("face.png")
    main(["face.png"])
    capsys.readouterr()
    main(["face.png", "--out", "-"])
    said = capsys.readouterr()
    assert said.out == Path("predictions.csv").read_text() and said.out.count("\n") == 2
    assert said.err == ""


def test_names_that_csv_must_quote_and_that_are_no_utf8(here: Path) -> None:
    face('faces/a, "b" ä.png')
    face("faces/c\udce4.png")
    main(["faces"])
    assert pd.read_csv("predictions.csv").path.tolist() == ['faces/a, "b" ä.png', "faces/c\\xe4.png"]


@pytest.mark.parametrize("named", ["other", "other/model.safetensors"])
def test_another_model(here: Path, named: str) -> None:
    face("face.png")
    Path("models").rename("other")
    main(["face.png", "--model", named])
    assert len(pd.read_csv("predictions.csv")) == 1
    with pytest.raises(WeightsError, match=r"models: no such file or folder"):
        main(["face.png", "--model", "models"])


def test_no_images_are_errors(here: Path) -> None:
    face("face.png")
    Path("empty").mkdir()
    with pytest.raises(DataError, match="there, nowhere: no such file or folder"):
        main(["there", "face.png", "nowhere"])
    with pytest.raises(DataError, match="empty: no images found"):
        main(["empty"])
    assert not Path("predictions.csv").exists()
