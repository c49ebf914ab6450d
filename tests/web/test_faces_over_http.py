"""Photos: each face has its box and its own answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mlflow_parts import random_model
from photo_parts import overlap, photo
from server_parts import Served, serving

from nla import Predictor
from nla.data.images import encode_png
from nla.faces import Face, crop_face, crop_for, open_detector
from nla.web.analysis import NONE
from nla.web.answers import FaceAnswer

PLACES = [(40, 60, 120), (260, 50, 140)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Served]:
    with serving(folder, "--detector", "dlib", cwd=folder) as served:
        yield served


def box_of(answer: FaceAnswer) -> Face:
    box = answer.box
    return Face(box.left, box.top, box.width, box.height, answer.score or 0.0)


def test_each_face_of_a_photo_has_its_box_and_its_answer(server: Served, folder: Path) -> None:
    pixels = photo(480, 260, PLACES)
    (image,) = server.post(encode_png(pixels)).json()["images"]
    answers = [FaceAnswer.model_validate(each) for each in image["faces"]]
    assert len(answers) == 2 and image["note"] == ""
    assert all(max(overlap(box_of(each), place) for each in answers) > 0.4 for place in PLACES)

    detector, predictor = open_detector("dlib"), Predictor.load(folder)
    for found, each in zip(detector.detect(pixels), answers, strict=True):
        assert box_of(each) == found
        expected = predictor.predict([crop_face(pixels, found, crop_for(None, "dlib"))])
        np.testing.assert_allclose(list(each.probabilities.values()), expected.probabilities[0], atol=1e-5)


def test_a_crop_is_taken_as_it_is_and_a_photo_without_a_face_has_none(server: Served) -> None:
    pixels = photo(480, 260, PLACES)
    (whole,) = server.post(encode_png(pixels), path="/predict?cropped=true").json()["images"]
    assert [face["box"]["width"] for face in whole["faces"]] == [480] and whole["faces"][0]["score"] is None
    (small,) = server.post(encode_png(pixels[:48, :48])).json()["images"]
    assert len(small["faces"]) == 1 and "taken as a crop" in small["note"]
    (empty,) = server.post(encode_png(photo(300, 200, []))).json()["images"]
    assert empty["faces"] == [] and empty["note"] == NONE


def test_images_with_and_without_faces_keep_their_order(server: Served) -> None:
    images = [photo(300, 200, []), photo(480, 260, PLACES), photo(300, 200, []), photo(480, 260, PLACES[:1])]
    files = [("images", (f"{n}.png", encode_png(image), "image/png")) for n, image in enumerate(images)]
    answer = server.post(None, None, files=files).json()
    assert [len(image["faces"]) for image in answer["images"]] == [0, 2, 0, 1]
    assert server.get("/health").json()["detector"] == "dlib"
