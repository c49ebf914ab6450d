"""`nla attention` on real image files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from mlflow_parts import CLASSES, random_model

from nla.commands.attention import main
from nla.data.images import encode_png
from nla.errors import CommandError, DataError
from nla.serving.predictor import Predictor


def faces(n: int, *shape: int) -> list[bytes]:
    Path("faces").mkdir()
    random = np.random.default_rng(0)
    data = [encode_png(random.integers(0, 256, shape or (20, 20), np.uint8)) for _ in range(n)]
    for i, content in enumerate(data):
        Path(f"faces/{i:03}.png").write_bytes(content)
    return data


def test_each_face_has_its_class_and_probability(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = Predictor.load("models").predict(faces(3))
    main(["faces", "--out", "a.svg", "--title"])
    svg = Path("a.svg").read_text()
    for label, p_C in zip(expected.label, expected.probabilities, strict=True):
        assert f"{label} {100 * p_C.max():.0f} %" in svg
    assert "Where the network looks" in svg
    assert capsys.readouterr().out.endswith("3 images: a.svg\n")


def test_another_class_can_be_asked_of(here: Path) -> None:
    p_NC = Predictor.load("models").predict(faces(2)).probabilities
    main(["faces", "--out", "a.svg", "--label", CLASSES[2]])
    assert [f"{CLASSES[2]} {100 * p:.0f} %" in Path("a.svg").read_text() for p in p_NC[:, 2]] == [True, True]
    assert "Where the network looks" not in Path("a.svg").read_text()


def test_many_images_are_thinned_out_evenly(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces(9)
    main(["faces", "--most", "3", "--out", "three.png"])
    main(["faces/000.png", "faces/003.png", "faces/006.png", "--out", "same.png"])
    assert Path("three.png").read_bytes() == Path("same.png").read_bytes()
    assert "3 images" in capsys.readouterr().out


def test_colour(here: Path) -> None:
    random_model(here / "models", channels=3)
    faces(1, 30, 40, 3)
    main(["faces"])
    assert cv2.imread("attention.png").std() > 0


def test_what_cannot_be_drawn_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces(2)
    Path("faces/000.png").write_bytes(b"no image")
    with pytest.raises(CommandError, match=r"a\.bmp: unsupported file format .* Use \.png, \.pdf, \.svg"):
        main(["faces", "--out", "a.bmp"])
    with pytest.raises(CommandError, match=f"--label: the model has no class 'zzz': valid are {', '.join(CLASSES)}"):
        main(["faces", "--label", "zzz"])
    with pytest.raises(DataError, match="no image can be read"):
        main(["faces/000.png"])
    with pytest.raises(SystemExit):
        main(["faces", "--most", "0"])
    assert not list(here.glob("attention.*"))
    main(["faces"])
    assert "unreadable images, left out: 1\n  faces/000.png: the file is damaged" in capsys.readouterr().err
