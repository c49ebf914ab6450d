"""`nla predict` on films by a sequence model: against whole videos of each face's crops."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from film_parts import FRAMES, write_film
from mlflow_parts import CLASSES
from photo_parts import photo, write_photo
from predict_parts import predicted
from sequence_model_parts import add_sequence_model

from nla.commands.film_sequences import LONGEST_WAIT, FilmSequences
from nla.commands.predict import main
from nla.errors import CommandError, WeightsError
from nla.faces.choice import open_detector
from nla.faces.crop import FERPLUS, crop_face
from nla.faces.detector import Face
from nla.faces.photo import FaceFinder, Found
from nla.faces.tracks import MEMORY_SECONDS
from nla.models.calibration import Calibration
from nla.video.features import both_views
from nla.video.predict import sequence_probabilities
from nla.video.sources.video_file import VideoFrame, read_video
from nla.video.streaming import StreamPredictor

pytestmark = pytest.mark.usefixtures("only_dlib")
P = [f"p_{name}" for name in CLASSES]
CALIBRATION = {"temperature": 2.0, "uniform": 0.1, "method": "temperature_uniform"}


def test_each_face_as_a_whole_video_of_its_crops(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = write_film("film.mp4", 2 * FRAMES)
    plain = predicted("film.mp4")
    add_sequence_model(here, calibration=CALIBRATION)
    table = predicted("film.mp4")
    assert list(table) == list(plain) and "not calibrated" not in capsys.readouterr().err
    same = ["path", "frame", "time", "track", "face", "left", "top", "width", "height", "score", "note"]
    pd.testing.assert_frame_equal(table[same], plain[same])
    assert np.abs(table[P] - plain[P]).max().max() > 0.01

    predictor, detector = StreamPredictor.load("models", "sequence"), open_detector("dlib")
    found = {frame.number: (frame.pixels, detector.detect(frame.pixels)) for frame in read_video(film)}
    for _, own in table.dropna(subset="track").groupby("track"):
        crops = [
            crop_face(found[row.frame][0], found[row.frame][1][int(row.face)], FERPLUS["dlib"])
            for row in own.itertuples()
        ]
        features, _ = both_views(predictor.frame_model.model, predictor.frame_model.fitted(crops))
        p = sequence_probabilities(predictor.model, features.half().numpy(), own.frame.to_numpy(), 6, 0.5)
        expected = Calibration(2.0, 0.1).of_array(p)
        np.testing.assert_allclose(own[P], expected, atol=1e-4)
        np.testing.assert_allclose(own.confidence, expected.max(1), atol=1e-4)
        assert own.label.tolist() == [CLASSES[c] for c in p.argmax(1)]
        two = np.sort(p, axis=1)[:, -2:]
        np.testing.assert_allclose(own.ambiguity, 1 - (two[:, 1] - two[:, 0]), atol=1e-4)


def test_the_ways_to_name_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_film("film.mp4", 4)
    add_sequence_model(here)
    for folder in ("models", "sequence"):
        shutil.copytree(folder, here / "video" / folder)
    expected = predicted("film.mp4", "--model", "video")
    assert "probabilities of the sequence model are not calibrated" in capsys.readouterr().err
    for name in ("video/models", "video/sequence", "video/sequence/model.safetensors"):
        pd.testing.assert_frame_equal(predicted("film.mp4", "--model", name), expected)
    alone = predicted("film.mp4", "--model", "video/models/model.safetensors", "--smooth", "0.1")
    assert np.abs(alone[P] - expected[P]).max().max() > 0.01


def test_photos_are_left_to_the_frame_model_and_that_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photo("a.png", photo(480, 270, [(20, 60, 130)]))
    alone = predicted("a.png")
    assert "frame model" not in capsys.readouterr().err
    add_sequence_model(here)
    pd.testing.assert_frame_equal(predicted("a.png", "--model", "sequence"), alone)
    assert "photos are classified by the frame model alone" in capsys.readouterr().err


def test_what_does_not_fit_is_refused(here: Path) -> None:
    write_film("film.mp4", 2)
    add_sequence_model(here)
    with pytest.raises(CommandError, match=r"--smooth: the sequence model .* --model .*models/model\.safetensors"):
        main(["film.mp4", "--smooth", "1"])
    shutil.copytree("sequence", "alone/sequence")
    with pytest.raises(WeightsError, match=r"the frame model of this sequence model is missing: no .*alone/models"):
        main(["film.mp4", "--model", "alone/sequence"])
    add_sequence_model(here, frame_model_sha256="0" * 64)
    with pytest.raises(WeightsError, match="trained on features of another frame model than"):
        main(["film.mp4"])
    Path("sequence/model.json").write_text("{")
    with pytest.raises(WeightsError, match=r"sequence/model\.json: not valid JSON"):
        main(["film.mp4"])
    assert not Path("predictions.csv").exists()


RATE = 25.0
BLANK = np.zeros((32, 32, 3), np.uint8)


def frames(count: int) -> Iterator[VideoFrame]:
    return (VideoFrame(number, number / RATE, BLANK) for number in range(1, count + 1))


class Finder(FaceFinder):
    """One face is there always, another in each 20th frame alone, and none for a second after 300 frames."""

    def __init__(self) -> None:
        super().__init__(None, 16, cropped=True)
        self.number = 0

    def find(self, image_HWC: np.ndarray) -> Found:
        self.number += 1
        if 300 < self.number < 330:
            return Found((), (), "none")
        faces = [Face(0, 0, 10, 10, 1.0), *([Face(20, 20, 10, 10, 1.0)] if self.number % 20 == 0 else [])]
        return Found(tuple(faces), tuple(np.full((16, 16), self.number % 251, np.uint8) for _ in faces), "")


def test_memory_does_not_grow_and_frames_come_in_order(here: Path) -> None:
    film = FilmSequences(StreamPredictor.load("models", add_sequence_model(here)), Finder(), keep_pictures=True)
    most, done = 0, []
    for predicted_frame in film.predict(frames(700), is_live=True):
        most = max(most, len(film._waiting), len(film._by_number))
        done.append(predicted_frame.frame.number)
        assert predicted_frame.prediction.probabilities.shape == (len(predicted_frame.faces), 3)
        assert predicted_frame.frame.pixels.shape == BLANK.shape
    assert done == list(range(1, 701))
    assert most <= max(LONGEST_WAIT * 6, MEMORY_SECONDS * RATE) + 2 and not film._streams


def test_what_a_signal_leaves_is_predicted_as_the_film_up_to_it(here: Path) -> None:
    predictor = StreamPredictor.load("models", add_sequence_model(here))

    def interrupted() -> Iterator[VideoFrame]:
        yield from frames(40)
        raise KeyboardInterrupt

    def film() -> FilmSequences:
        return FilmSequences(predictor, Finder(), keep_pictures=False)

    cut, found = film(), []
    with pytest.raises(KeyboardInterrupt):
        found.extend(cut.predict(interrupted(), is_live=True))
    assert 20 < len(found) < 40
    found += cut.rest()
    whole = list(film().predict(frames(40), is_live=True))
    assert [each.frame.number for each in found] == list(range(1, 41))
    for one, other in zip(found, whole, strict=True):
        np.testing.assert_array_equal(one.prediction.probabilities, other.prediction.probabilities)
