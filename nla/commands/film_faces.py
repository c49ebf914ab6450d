"""The faces of a film or a camera: found, classified and numbered frame by frame, in memory that does not grow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from nla.data.images import Pixels, fit
from nla.data.parallel import map_in_order
from nla.faces.detector import Face
from nla.faces.photo import FaceFinder, Found
from nla.faces.tracks import MEMORY_SECONDS, Tracker
from nla.serving.predictor import Prediction, Predictor
from nla.video.sources.video_file import VideoFrame

AHEAD = 8
"""Frames in which faces are found at the same time: of a film with 3,840 x 2,160 pixels they take 200 MB."""


@dataclass(frozen=True)
class PredictedFrame:
    """A frame with the predictions for its n faces."""

    frame: VideoFrame
    faces: tuple[Face | None, ...]
    """None: the frame is a crop itself."""
    note: str
    tracks: tuple[int, ...]
    """Number of each face, the same over the frames that show it."""
    prediction: Prediction


@dataclass(frozen=True)
class FoundFrame:
    """A frame with the crops of its faces, fitted to the model."""

    frame: VideoFrame
    found: Found
    crops: Sequence[Pixels]


def predict_frames(
    predictor: Predictor, finder: FaceFinder, frames: Iterable[VideoFrame], smooth: float, *, is_live: bool = False
) -> Iterator[PredictedFrame]:
    """Yields each frame with its predictions, in order.

    Args:
        predictor: the model.
        finder: finds and crops the faces.
        frames: of a film or a camera.
        smooth: seconds over which the probabilities of a face are averaged; 0 for none.
        is_live: answer each frame before the next one is read.
    """
    tracker, smoother = Tracker(), Smoother(predictor, smooth)
    for batch in found_batches(predictor, finder, frames, is_live=is_live):
        yield from _predict(predictor, batch, tracker, smoother)


def found_batches(
    predictor: Predictor, finder: FaceFinder, frames: Iterable[VideoFrame], *, is_live: bool = False
) -> Iterator[list[FoundFrame]]:
    """Yields the frames, in order, with their faces: AHEAD together, in which these are found at the same time.

    `is_live`: one by one, each before the next one is read.
    """
    spec = predictor.model.image

    def find(frame: VideoFrame) -> FoundFrame:
        found = finder.find(frame.pixels)
        return FoundFrame(frame, found, [fit(crop, spec.size, spec.color) for crop in found.crops])

    ahead = 1 if is_live else AHEAD
    found = map(find, frames) if is_live else map_in_order(find, frames, ahead)
    while batch := list(islice(found, ahead)):
        yield batch


def _predict(
    predictor: Predictor, batch: Sequence[FoundFrame], tracker: Tracker, smoother: Smoother
) -> Iterator[PredictedFrame]:
    crops = [crop for each in batch for crop in each.crops]
    prediction = predictor.predict_fitted(predictor.stacked(crops))
    for each, own in zip(batch, prediction.split(len(each.crops) for each in batch), strict=True):
        tracks = tuple(tracker.numbers(each.found.faces, each.frame.time))
        smoothed = smoother.smoothed(own, tracks, each.frame.time)
        yield PredictedFrame(each.frame, each.found.faces, each.found.note, tracks, smoothed)


@dataclass
class Smoother:
    """Averages the probabilities of each face over time, with weights that fall exponentially into the past.

    With the time t since the frame before, m <- m + (1 - exp(-t / smooth)) (p - m): after `smooth` seconds, a change of
    p has arrived to 63 %, at any rate of frames.
    """

    predictor: Predictor
    seconds: float
    _means: dict[int, tuple[float, np.ndarray]] = field(default_factory=dict)
    """Number of a face -> (time, mean of its probabilities before calibration)."""

    def smoothed(self, prediction: Prediction, tracks: Sequence[int], time: float) -> Prediction:
        """The prediction with averages in place of the frame's own probabilities; `ambiguity` stays the frame's."""
        if not self.seconds or not tracks:
            return prediction
        self._means = {track: mean for track, mean in self._means.items() if time - mean[0] <= MEMORY_SECONDS}
        for track, p_C in zip(tracks, prediction.uncalibrated, strict=True):
            before, mean_C = self._means.get(track, (time, p_C))
            share = -math.expm1(-(time - before) / self.seconds)
            self._means[track] = time, mean_C + np.float32(share) * (p_C - mean_C)
        p_nC = np.stack([self._means[track][1] for track in tracks])
        calibrated_nC = self.predictor.calibration.of_array(p_nC)
        return replace(
            prediction,
            label=tuple(self.predictor.classes[c] for c in p_nC.argmax(1)),
            probabilities=calibrated_nC,
            confidence=calibrated_nC.max(1),
            uncalibrated=p_nC,
        )
