"""Predictions for a stream of face crops, by frame model and sequence model, in memory that does not grow with it.

    predictor = StreamPredictor.load("video/models", "video/sequence")
    for prediction in predictor.predict(crops):
        print(prediction.frame, prediction.label)

The result is that of the stage `evaluate`, which has all frames at once: overlapping windows, whose logits are
averaged, and a last window that ends with the stream. So a frame is predicted as soon as no later window can hold it,
at most two windows after it was seen.

Legend: F features, C classes; the views of a frame are the image and its mirror image.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from nla.errors import WeightsError
from nla.evaluation.predict import evaluating
from nla.io import atomic_write
from nla.models.saved_model import read_card, weights_file
from nla.serving.predictor import Predictor
from nla.video.features import both_views
from nla.video.models import SequenceClassifier
from nla.video.predict import frame_probabilities
from nla.video.saved_model import SequenceCard, load_sequence_model
from nla.video.windows import step_of

AT_ONCE = 64
"""Frames in a pass of the frame model."""


@dataclass(frozen=True)
class FramePrediction:
    """The prediction for a frame."""

    frame: int
    """Number in the stream, from 1."""
    label: str
    """Most probable class."""
    probabilities: np.ndarray
    """float32 [C], of the sequence model."""
    frame_probabilities: np.ndarray
    """float32 [C], of the frame model alone."""


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
    def load(cls, frame_model: Path | str, sequence_model: Path | str) -> StreamPredictor:
        """Loads both models, each a weights file with its card, or a folder with model.safetensors and model.json.

        Raises:
            WeightsError: a file is missing or damaged, or the sequence model was trained on another frame model.
        """
        weights = weights_file(Path(sequence_model))
        model, card = load_sequence_model(weights)
        if read_card(weights_file(Path(frame_model)))["sha256"] != card.frame_model_sha256:
            raise WeightsError(
                f"{weights}: was trained on features of another frame model than {frame_model}. Name that one."
            )
        predictor = Predictor.load(frame_model)
        return cls(predictor, model.to(next(predictor.model.parameters()).device), card)

    def predict(self, crops: Iterable[np.ndarray | bytes]) -> Iterator[FramePrediction]:
        """Yields a prediction per crop, in their order.

        Args:
            crops: faces, each as pixels, uint8 [H, W] or [H, W, 3] in RGB, or as an encoded image.

        Raises:
            DataError: a crop is no image; the message names it by its number, from 1.
        """
        waiting = _Window(self.card.window, self.card.overlap)
        stream = iter(crops)
        while batch := list(islice(stream, AT_ONCE)):
            features, logits = self._features(batch, waiting.seen)
            for feature_2F, logits_2C in zip(features, logits, strict=True):
                if waiting.add(feature_2F, logits_2C):
                    waiting.take(self._logits(waiting.features))
                    yield from self._predictions(waiting.final(is_end=False))
        if waiting.seen:
            if waiting.has_rest:
                waiting.take(self._logits(waiting.features))
            yield from self._predictions(waiting.final(is_end=True))

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

    def _features(self, crops: list[np.ndarray | bytes], before: int) -> tuple[np.ndarray, np.ndarray]:
        """Features [N, 2, F] float16 and logits [N, 2, C] of both views of N crops."""
        features, logits = both_views(self.frame_model.model, self.frame_model.fitted(crops, before + 1))
        return features.half().numpy(), logits.numpy()

    def _logits(self, features_T2F: np.ndarray) -> np.ndarray:
        """Logits [T, 2, C] of a window by the sequence model."""
        device = next(self.model.parameters()).device
        features_2TF = torch.from_numpy(features_T2F).to(device).transpose(0, 1)
        frame_2T = torch.arange(len(features_T2F), device=device).repeat(2, 1)
        with evaluating(self.model), torch.inference_mode():
            logits_2TC = self.model(features_2TF, torch.ones_like(frame_2T, dtype=torch.bool), frame_2T)
        logits: np.ndarray = logits_2TC.transpose(0, 1).float().cpu().numpy()
        return logits

    def _predictions(self, final: Iterable[tuple[int, np.ndarray, np.ndarray]]) -> Iterator[FramePrediction]:
        for frame, logits_2C, own_2C in final:
            p_C, single_C = (frame_probabilities(values[None])[0] for values in (logits_2C, own_2C))
            yield FramePrediction(frame, self.card.classes[int(p_C.argmax())], p_C, single_C)


class _Window:
    """The frames that a later window can still hold: fewer than two windows, however long the stream is."""

    def __init__(self, size: int, overlap: float) -> None:
        self.size, self.step = size, step_of(size, overlap)
        self.seen = 0
        self._first = 0
        """Number of the first frame that is held, from 0."""
        self._end = 0
        """Frames up to which there was a window."""
        self._features: list[np.ndarray] = []
        self._own: list[np.ndarray] = []
        self._total: list[np.ndarray] = []
        """Sum of the logits of each held frame over its windows so far."""
        self._count: list[int] = []

    def add(self, feature_2F: np.ndarray, logits_2C: np.ndarray) -> bool:
        """Holds a frame; returns whether a window is complete with it."""
        self._features.append(feature_2F)
        self._own.append(logits_2C)
        self._total.append(np.zeros_like(logits_2C, np.float64))
        self._count.append(0)
        self.seen += 1
        return self.seen >= self.size and (self.seen - self.size) % self.step == 0

    @property
    def has_rest(self) -> bool:
        """Whether frames are in no window yet, or in none that ends with the stream."""
        return self._end < self.seen

    @property
    def features(self) -> np.ndarray:
        """Of the last `size` frames, or of all of a shorter stream."""
        return np.stack(self._features[-self.size :])

    def take(self, logits_T2C: np.ndarray) -> None:
        """Adds the logits of a window over the last frames."""
        start = len(self._features) - len(logits_T2C)
        for i, values in enumerate(logits_T2C, start):
            self._total[i] = self._total[i] + values
            self._count[i] += 1
        self._end = self.seen

    def final(self, is_end: bool) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yields and forgets (frame from 1, mean logits [2, C], those of the frame model) of frames that are done.

        The window that ends with the stream begins behind the last one, so all before its second frame are.
        """
        done = len(self._features) if is_end else max(len(self._features) - self.size + 1, 0)
        for i in range(done):
            yield self._first + i + 1, self._total[i] / self._count[i], self._own[i]
        for held in (self._features, self._own, self._total, self._count):
            del held[:done]
        self._first += done
