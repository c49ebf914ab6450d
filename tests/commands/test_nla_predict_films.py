"""`nla predict` on films: against the predictor on the frames themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from film_parts import FRAMES, RATE, STEP, write_film
from mlflow_parts import CLASSES, ROOT
from patience import PATIENCE
from photo_parts import photo, write_photo
from predict_parts import predicted

from nla.commands.predict import UNCERTAIN, main
from nla.errors import CommandError, DataError
from nla.faces.choice import open_detector
from nla.faces.crop import FERPLUS, crop_face
from nla.serving.predictor import Predictor
from nla.video.sources.video_file import read_video

pytestmark = pytest.mark.usefixtures("only_dlib")
P = [f"p_{name}" for name in CLASSES]


def test_each_face_of_each_frame_as_the_predictor_has_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = write_film("film.mp4")
    table = predicted("film.mp4")
    assert list(table)[:5] == ["path", "frame", "time", "track", "face"]
    assert table.frame.tolist() == [number for number in range(1, FRAMES + 1) for _ in range(1 if number == 3 else 2)]
    np.testing.assert_allclose(table.time, (table.frame - 1) / RATE, atol=1e-3)
    empty = table[table.frame == 3].iloc[0]
    assert "no face" in empty.note and np.isnan(empty.track)
    detector, predictor = open_detector("dlib"), Predictor.load("models")
    for frame in read_video(film):
        faces = detector.detect(frame.pixels)
        own = table[(table.frame == frame.number) & table.face.notna()]
        np.testing.assert_allclose(own.left, [face.left for face in faces], atol=1e-6)
        if faces:
            expected = predictor.predict([crop_face(frame.pixels, face, FERPLUS["dlib"]) for face in faces])
            np.testing.assert_allclose(own[P], expected.probabilities, atol=1e-5)
            assert tuple(own.label) == expected.label
    assert f"{FRAMES} frames, {2 * FRAMES - 2} faces, 1 without a face: out.csv" in capsys.readouterr().out


def test_a_face_keeps_its_number_over_the_frames(here: Path) -> None:
    write_film("film.mp4")
    table = predicted("film.mp4").dropna(subset="track")
    middle = table.left + table.width / 2 - STEP * table.frame
    assert set(table.track) == {0, 1}
    for _, own in middle.groupby(table.track):
        assert own.max() - own.min() < 40, "each number moves as one person does"


def test_each_nth_frame(here: Path) -> None:
    write_film("film.mp4")
    whole, some = predicted("film.mp4"), predicted("film.mp4", "--every", "4")
    assert sorted(set(some.frame)) == [1, 5, 9]
    pd.testing.assert_frame_equal(
        some.drop(columns="track").reset_index(drop=True),
        whole[whole.frame.isin([1, 5, 9])].drop(columns="track").reset_index(drop=True),
        check_dtype=False,  # numbers of a column with gaps are floats
    )


def test_smoothing_is_a_mean_over_the_past_of_each_face(here: Path) -> None:
    write_film("film.mp4")
    plain, smooth = predicted("film.mp4"), predicted("film.mp4", "--smooth", "0.3")
    for track in (0, 1):
        own, out = (table[table.track == track].reset_index(drop=True) for table in (plain, smooth))
        mean, before = own[P].to_numpy()[0], own.time[0]
        for i in range(len(own)):
            share = 1 - np.exp(-(own.time[i] - before) / 0.3)
            mean, before = mean + share * (own[P].to_numpy()[i] - mean), own.time[i]
            np.testing.assert_allclose(out[P].to_numpy()[i], mean, atol=1e-4)
        pd.testing.assert_series_equal(out.ambiguity, own.ambiguity)
    assert np.abs(smooth[P] - plain[P]).max().max() > 0.01


def test_photos_beside_films_have_the_same_columns(here: Path) -> None:
    write_film("film.mp4", 2)
    write_photo("photos/a.png", photo(480, 270, [(20, 60, 130)]))
    table = predicted("photos", "film.mp4", "--at-least", "1")
    assert table.path.tolist() == ["photos/a.png"] + 4 * ["film.mp4"]
    assert np.isnan(table.frame[0]) and set(table.label) == {UNCERTAIN}


def test_films_in_folders_are_read_as_if_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photo("all/a.png", photo(480, 270, [(20, 60, 130)]))
    Path("all/deep/.hidden").mkdir(parents=True)
    film = write_film("film.mp4", 2).read_bytes()
    for name in ("all/deep/two.MP4", "all/one.mp4", "all/.three.mp4", "all/deep/.hidden/four.mp4"):
        Path(name).write_bytes(film)
    Path("all/notes.txt").write_text("no image")
    table = predicted("all")
    assert list(dict.fromkeys(table.path)) == ["all/a.png", "all/deep/two.MP4", "all/one.mp4"]
    said = capsys.readouterr().err
    assert "1 .txt" in said and "mp4" not in said.lower().replace(".mp4, ", ""), "films are not counted as unread"
    named = predicted("all/one.mp4")
    own = table[table.path == "all/one.mp4"].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, named, check_dtype=False)
    twice = predicted("all/one.mp4", "all")
    assert list(dict.fromkeys(twice.path)) == ["all/a.png", "all/one.mp4", "all/deep/two.MP4"]
    assert len(twice) == len(table), "each once"


def test_a_folder_of_films_alone(here: Path) -> None:
    Path("films").mkdir()
    write_film("films/film.mp4", 2)
    assert set(predicted("films").path) == {"films/film.mp4"}
    with pytest.raises(CommandError, match=r"--draw: films/film\.mp4 lies in this folder"):
        main(["films", "--draw", "films"])


def test_a_film_is_drawn_with_its_boxes(here: Path) -> None:
    film = write_film("film.mp4")
    main(["film.mp4", "--draw", "drawn", "--out", "out.jsonl"])
    before, after = list(read_video(film)), list(read_video(Path("drawn/film.mp4")))
    assert len(before) == len(after) == FRAMES
    assert after[1].time == pytest.approx(1 / RATE, abs=1e-3)
    assert [path.name for path in Path("drawn").iterdir()] == ["film.mp4"]
    colour = [np.ptp(frame.pixels.astype(int), axis=2).max() for frame in after]
    assert min(colour[:2]) > 60 and colour[2] < 40, "boxes are blue, the rest is grey"


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_film("film.mp4", 60).read_bytes()
    writer = cv2.VideoWriter("cut.avi", cv2.VideoWriter.fourcc(*"MJPG"), RATE, (480, 270))
    for _ in range(20):
        writer.write(photo(480, 270, []))
    writer.release()
    whole = Path("cut.avi").read_bytes()
    Path("cut.avi").write_bytes(whole[: len(whole) // 2])
    Path("text.mp4").write_text("no film")
    Path("empty.mkv").touch()
    Path("whole.mp4").write_bytes(data)
    table = predicted("text.mp4", "empty.mkv", "gone.mp4", "cut.avi", "whole.mp4", "--every", "20")
    assert set(table.path) == {"cut.avi", "whole.mp4"} and (table.path == "whole.mp4").sum() >= 3
    said = capsys.readouterr().err
    for name in ("text.mp4", "empty.mkv", "gone.mp4"):
        assert said.count(name) == 1, said
    assert "cut.avi: breaks off after frame" in said and "of 20" in said


def test_nothing_but_what_cannot_be_read(here: Path) -> None:
    Path("text.mp4").write_text("no film")
    with pytest.raises(DataError, match=r"text\.mp4: cannot be opened as a video"):
        main(["text.mp4"])
    assert not Path("predictions.csv").exists()


def test_a_camera_that_is_not_there(here: Path) -> None:
    with pytest.raises(CommandError, match=r"camera 42: cannot be opened\. Check that it is plugged in"):
        main(["42"])
    assert not Path("predictions.csv").exists()


@pytest.mark.thorough
def test_a_signal_ends_a_film_and_keeps_what_came_before(here: Path) -> None:
    write_film("film.mp4", 400)
    command = [
        sys.executable,
        "-m",
        "nla.commands.main",
        "predict",
        "film.mp4",
        "--out",
        "out.parquet",
        "--draw",
        "drawn",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + PATIENCE
    while not (part := Path("out.parquet.part")).exists() or part.stat().st_size < 2000:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGINT, out + err
    assert "Traceback" not in err
    table = pd.read_parquet("out.parquet")
    assert 1 <= table.frame.max() < 400 and table.frame.tolist() == sorted(table.frame)
    drawn = sum(1 for _ in read_video(Path("drawn/film.mp4")))
    assert table.frame.max() - 1 <= drawn <= table.frame.max(), "the frame of the signal may be missing in one of them"
