"""Predictions for streams of face crops, by frame model and sequence model, in memory that does not grow with them.

    predictor = StreamPredictor.load("video/models", "video/sequence")
    for prediction in predictor.predict(crops):
        print(prediction.frame, prediction.label)

The result is that of the stage `evaluate`, which has all frames at once: overlapping windows, whose logits are
averaged, and a last window that ends with the stream. So a frame is predicted as soon as no later window can hold it,
at most two windows after it was seen. Probabilities are calibrated as the card says.

Legend: F features, C classes; the views of a frame are the image and its mirror image.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch

from nla.errors import WeightsError
from nla.evaluation.predict import evaluating
from nla.io import atomic_write
from nla.limits import ImageLimits
from nla.models.saved_model import read_card, weights_file
from nla.serving.predictor import Prediction, Predictor
from nla.video.features import both_views
from nla.video.models import SequenceClassifier
from nla.video.predict import frame_probabilities
from nla.video.saved_model import SequenceCard, load_sequence_model
from nla.video.stream_window import StreamWindow

AT_ONCE = 64
"""Frames in a pass of the frame model."""


@dataclass(frozen=True)
class FramePrediction:
    """The prediction for a frame."""

    frame: int
    """Number in the stream, from 1; in a film, its number there."""
    label: str
    """Most probable class."""
    probabilities: np.ndarray
    """Calibrated: float32 [C], of the sequence model."""
    frame_probabilities: np.ndarray
    """float32 [C], of the frame model alone, before calibration."""
    uncalibrated: np.ndarray
    """float32 [C], of the sequence model, before calibration."""


class StreamPredictor:
    """A frame model and a sequence model that was trained on its features.

    Args:
        frame_model: the model of single frames, with its classes.
        model: the sequence model.
        card: of the sequence model.

    Raises:
        WeightsError: the two have other classes.
    """

    def __init__(self, frame_model: Predictor, model: SequenceClassifier, card: SequenceCard) -> None:
        if list(frame_model.classes) != card.classes:
            raise WeightsError(
                f"the frame model knows {', '.join(frame_model.classes)}, but the sequence model "
                f"{', '.join(card.classes)}. Use two of the same `dvc repro`."
            )
        self.frame_model, self.model, self.card = frame_model, model, card

    @classmethod
    def load(
        cls,
        frame_model: Path | str,
        sequence_model: Path | str,
        limits: ImageLimits | None = None,
        device: str = "auto",
    ) -> StreamPredictor:
        """Loads both models, each a weights file with its card, or a folder with model.safetensors and model.json.

        Args:
            frame_model: the model of single frames.
            sequence_model: trained on its features.
            limits: as of `Predictor.load`.
            device: as of `Predictor.load`.

        Raises:
            WeightsError: a file is missing or damaged, or the sequence model was trained on another frame model.
        """
        weights = weights_file(Path(sequence_model))
        model, card = load_sequence_model(weights)
        if read_card(weights_file(Path(frame_model)))["sha256"] != card.frame_model_sha256:
            raise WeightsError(
                f"{weights}: was trained on features of another frame model than {frame_model}. Name that one, or run "
                "`dvc repro` in video/."
            )
        predictor = Predictor.load(frame_model, limits=limits, device=device)
        return cls(predictor, model.to(next(predictor.model.parameters()).device), card)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return tuple(self.card.classes)

    def predict(
        self, crops: Iterable[np.ndarray | bytes], numbers: Iterable[int] | None = None
    ) -> Iterator[FramePrediction]:
        """Yields a prediction per crop, in their order.

        Args:
            crops: faces, each as pixels, uint8 [H, W] or [H, W, 3] in RGB, or as an encoded image.
            numbers: of the frames, increasing, which tell a model with positions where frames are missing; None: 1, 2,
                and so on.

        Raises:
            DataError: a crop is no image; the message names it by its place, from 1.
            WeightsError: the logits are not finite.
        """
        face, images, seen = self.face(), iter(crops), 0
        numbered = count(1) if numbers is None else iter(numbers)
        while batch := list(islice(images, AT_ONCE)):
            features, logits = self.features(batch, seen + 1)
            for feature_2F, logits_2C in zip(features, logits, strict=True):
                seen += 1
                yield from face.add(next(numbered), feature_2F, logits_2C)
        yield from face.end()

    def predict_clip(self, crops: Sequence[np.ndarray | bytes], numbers: Sequence[int] | None = None) -> Prediction:
        """The predictions for all frames of a clip. Arguments and errors are those of `predict`."""
        rows = [prediction.uncalibrated for prediction in self.predict(crops, numbers)]
        p_TC = np.stack(rows) if rows else np.empty((0, len(self.classes)), np.float32)
        return Prediction.of(p_TC, self.classes, self.card.calibration)

    def face(self) -> FaceStream:
        """A stream of the crops of one face, such as one of several in a film."""
        return FaceStream(self)

    def write_csv(self, crops: Iterable[np.ndarray | bytes], path: Path | str) -> int:
        """Writes frame, label and probabilities of each crop, row by row, and returns their number. Raises as predict.

        The file appears when it is complete.
        """
        rows = 0
        with atomic_write(Path(path)) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["frame", "label", *self.card.classes])
            for prediction in self.predict(crops):
                shares = [f"{share:.6f}" for share in prediction.probabilities]
                writer.writerow([prediction.frame, prediction.label, *shares])
                rows += 1
        return rows

    def features(self, crops: Sequence[np.ndarray | bytes], first: int) -> tuple[np.ndarray, np.ndarray]:
        """Features [N, 2, F] float16 and logits [N, 2, C] of N crops, one at least, by the frame model.

        Raises DataError if one is no image; `first` is the number of the first one, for the message.
        """
        features, logits = both_views(self.frame_model.model, self.frame_model.fitted(crops, first))
        return features.half().numpy(), logits.numpy()

    def logits(self, features_T2F: np.ndarray, frame_T: np.ndarray) -> np.ndarray:
        """Logits [T, 2, C] of a window, with the numbers of its frames, by the sequence model.

        Raises WeightsError if they are not finite.
        """
        device = next(self.model.parameters()).device
        features_2TF = torch.from_numpy(features_T2F).to(device).transpose(0, 1)
        frame_2T = torch.from_numpy(frame_T).to(device).repeat(2, 1)
        with evaluating(self.model), torch.inference_mode():
            logits_2TC = self.model(features_2TF, torch.ones_like(frame_2T, dtype=torch.bool), frame_2T)
        logits: np.ndarray = logits_2TC.transpose(0, 1).float().cpu().numpy()
        if not np.isfinite(logits).all():
            raise WeightsError("the sequence model's logits are not finite. Train it again, or use another model.")
        return logits


class FaceStream:
    """The frames of one face, which come one after the other."""

    def __init__(self, predictor: StreamPredictor) -> None:
        self._predictor = predictor
        self._window = StreamWindow(predictor.card.window, predictor.card.overlap)

    def add(self, frame: int, feature_2F: np.ndarray, logits_2C: np.ndarray) -> list[FramePrediction]:
        """Adds a frame, with its number, and features and logits of the frame model; returns those that are done."""
        if not self._window.add(frame, feature_2F, logits_2C):
            return []
        self._take()
        return self._predictions(is_end=False)

    def end(self) -> list[FramePrediction]:
        """The predictions for all frames that are left: no other will come."""
        if self._window.has_rest:
            self._take()
        return self._predictions(is_end=True)

    def _take(self) -> None:
        self._window.take(self._predictor.logits(self._window.features, self._window.frames))

    def _predictions(self, is_end: bool) -> list[FramePrediction]:
        card, found = self._predictor.card, []
        for frame, logits_2C, own_2C in self._window.final(is_end):
            p_C, single_C = (frame_probabilities(values[None])[0] for values in (logits_2C, own_2C))
            label = card.classes[int(p_C.argmax())]
            found.append(FramePrediction(frame, label, card.calibration.of_array(p_C[None])[0], single_C, p_C))
        return found
