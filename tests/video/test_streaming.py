"""Streaming: the predictions of a whole video, frame by frame, in memory of two windows."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sequence_parts import config

from nla.config.model import ModelConfig
from nla.data.images import encode_png
from nla.errors import DataError, WeightsError
from nla.io import sha256
from nla.models.base import Architecture, ImageSpec
from nla.models.classifier import Classifier
from nla.models.saved_model import save_model
from nla.video.features import both_views
from nla.video.models import SequenceArchitecture, SequenceClassifier
from nla.video.predict import frame_probabilities, sequence_probabilities
from nla.video.saved_model import save_sequence_model
from nla.video.stream_window import StreamWindow
from nla.video.streaming import StreamPredictor
from nla.video.windows import averaged, windows

CLASSES = ["a", "b", "c"]


def save(folder: Path, window: int = 12, overlap: float = 0.5, frame_model: str | None = None) -> tuple[Path, Path]:
    """A frame model and a sequence model on its features, untrained."""
    torch.manual_seed(0)
    model = Classifier(Architecture.of(ModelConfig(width=4), 3), ImageSpec(16, 1, (0.4,), (0.25,)))
    card = {**model.describe(), "source": "s", "classes": CLASSES, "fingerprint": "f", "epoch": 1}
    save_model(folder / "models/model.safetensors", model.backbone.state_dict(), card)
    sequence = SequenceClassifier(SequenceArchitecture.of(config().model, 32, 3))
    facts = {"frame_model_sha256": frame_model or sha256(folder / "models/model.safetensors"), "source": "s"}
    facts |= {"classes": CLASSES, "window": window, "overlap": overlap, "fingerprint": "g", "epoch": 1}
    save_sequence_model(
        folder / "sequence/model.safetensors", sequence.backbone.state_dict(), {**sequence.describe(), **facts}
    )
    return folder / "models", folder / "sequence"


def crops(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(1).integers(0, 256, (count, 16, 16), np.uint8))


@pytest.mark.parametrize("count", [1, 11, 12, 13, 30, 41, 150])
def test_a_stream_is_predicted_as_a_whole_video(tmp_path: Path, count: int) -> None:
    predictor = StreamPredictor.load(*save(tmp_path))
    images = crops(count)
    found = list(predictor.predict(iter(images)))
    assert [prediction.frame for prediction in found] == list(range(1, count + 1))
    features, logits = both_views(predictor.frame_model.model, np.stack(images)[..., None])
    expected = sequence_probabilities(predictor.model, features.half().numpy(), np.arange(count), 12, 0.5)
    np.testing.assert_allclose([prediction.probabilities for prediction in found], expected, atol=1e-4)
    single = frame_probabilities(logits.numpy())
    np.testing.assert_allclose([prediction.frame_probabilities for prediction in found], single, atol=1e-5)
    assert all(prediction.label == CLASSES[int(prediction.probabilities.argmax())] for prediction in found)


@given(st.integers(1, 200), st.integers(1, 40), st.floats(0, 0.99))
def test_windows_of_a_stream_are_those_of_a_video(frames: int, size: int, overlap: float) -> None:
    """The value of a frame in a window tells both, so that every window must be the same one."""

    def window_values(start: int, stop: int) -> np.ndarray:
        return (np.arange(start, stop) * 1000.0 + start)[:, None, None]

    stream, done, most = StreamWindow(size, overlap), [], 0
    for t in range(frames):
        if stream.add(t + 1, np.zeros((2, 1)), np.zeros((1, 1))):
            stream.take(window_values(t + 1 - size, t + 1))
            done += stream.final(is_end=False)
        most = max(most, len(stream._held))
    if stream.has_rest:
        stream.take(window_values(max(frames - size, 0), frames))
    done += stream.final(is_end=True)
    cuts = windows(frames, size, overlap)
    expected = averaged(((cut, window_values(cut.start, cut.stop)) for cut in cuts), frames)
    assert [frame for frame, _, _ in done] == list(range(1, frames + 1))
    np.testing.assert_allclose([value for _, value, _ in done], expected)
    assert most <= 2 * size, "memory does not grow with the stream"


def test_predictions_come_while_the_stream_goes_on(tmp_path: Path) -> None:
    predictor = StreamPredictor.load(*save(tmp_path))
    given_crops = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal given_crops
        while True:
            given_crops += 1
            yield np.zeros((20, 20), np.uint8)

    stream = predictor.predict(endless())
    assert [next(stream).frame for _ in range(100)] == list(range(1, 101))
    assert given_crops <= 100 + 2 * 12 + 64


def test_frames_have_the_numbers_that_they_are_given_and_their_model_sees_the_gaps(tmp_path: Path) -> None:
    predictor, images = StreamPredictor.load(*save(tmp_path)), crops(20)
    numbers, seen = [*range(3, 13), *range(40, 50)], []
    logits = predictor.logits

    def noted(features_T2F: np.ndarray, frame_T: np.ndarray) -> np.ndarray:
        seen.append(frame_T.tolist())
        return logits(features_T2F, frame_T)

    predictor.logits = noted  # type: ignore[method-assign]
    assert [prediction.frame for prediction in predictor.predict(images, numbers)] == numbers
    assert seen == [numbers[:12], numbers[6:18], numbers[8:]]


def test_a_model_whose_logits_are_no_numbers_is_refused(tmp_path: Path) -> None:
    predictor = StreamPredictor.load(*save(tmp_path))
    with torch.no_grad():
        next(predictor.model.parameters()).fill_(torch.nan)
    with pytest.raises(WeightsError, match="logits are not finite"):
        predictor.predict_clip(crops(3))


def test_a_csv_has_a_row_per_frame(tmp_path: Path) -> None:
    predictor = StreamPredictor.load(*save(tmp_path))
    images = [encode_png(image) for image in crops(15)]
    assert predictor.write_csv(images, tmp_path / "out.csv") == 15
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [int(row["frame"]) for row in rows] == list(range(1, 16))
    for row, prediction in zip(rows, predictor.predict(images), strict=True):
        assert row["label"] == prediction.label
        np.testing.assert_allclose([float(row[name]) for name in CLASSES], prediction.probabilities, atol=1e-6)


def test_the_block_of_the_video_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path)
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[2] / "docs/video.md"
    (code,) = re.findall(r"^```python\n(from nla\.video\.streaming.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    exec(code, {"crops": crops(30)})
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 31


def test_bad_crops_are_named_and_no_file_is_left(tmp_path: Path) -> None:
    predictor = StreamPredictor.load(*save(tmp_path))
    with pytest.raises(DataError, match="image 3: "):
        predictor.write_csv([encode_png(crops(1)[0])] * 2 + [b"no image"], tmp_path / "out.csv")
    assert not list(tmp_path.glob("out.csv*"))
    assert list(predictor.predict([])) == []


def test_a_sequence_model_of_another_frame_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="features of another frame model"):
        StreamPredictor.load(*save(tmp_path, frame_model="other"))
