"""The faces of a film by a sequence model: each face is a stream of crops, frames come out when all of theirs are done.

Memory does not grow with the film: a frame waits until no later window can hold its faces, and no longer than
LONGEST_WAIT windows. A frame that waits is its boxes and numbers; its picture too, as JPEG, if it will be drawn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from nla.commands.film_faces import FoundFrame, PredictedFrame, found_batches
from nla.data.images import decode, encode_jpeg
from nla.errors import DataError
from nla.faces.detector import Face
from nla.faces.photo import FaceFinder
from nla.faces.tracks import MEMORY_SECONDS, Tracker
from nla.serving.predictor import Prediction
from nla.video.sources.video_file import VideoFrame
from nla.video.streaming import FaceStream, FramePrediction, StreamPredictor

LONGEST_WAIT = 3
"""Windows, in frames of the film, that a frame waits. A face in all frames needs two; the stream of one that is missing
in most of them ends then, and another one begins."""
QUALITY = 90
"""Of the JPEG of a picture that waits: a film that is drawn is compressed more than that."""
NO_PIXELS = np.empty((0, 0, 3), np.uint8)


@dataclass
class _Waiting:
    """A frame some of whose faces have no prediction yet."""

    number: int
    time: float
    faces: tuple[Face | None, ...]
    note: str
    tracks: tuple[int, ...]
    picture: bytes | None
    found: dict[int, FramePrediction] = field(default_factory=dict)
    """By the number of the face."""

    @property
    def is_done(self) -> bool:
        return len(self.found) == len(self.tracks)


@dataclass
class _Stream:
    """The stream of a face, with the time of the last frame that showed it."""

    face: FaceStream
    time: float = 0.0


class FilmSequences:
    """One film or camera.

    Args:
        predictor: frame model and sequence model.
        finder: finds and crops the faces.
        keep_pictures: whether the pixels of the frames are needed behind the prediction.
    """

    def __init__(self, predictor: StreamPredictor, finder: FaceFinder, *, keep_pictures: bool) -> None:
        self._predictor, self._finder, self._keep_pictures = predictor, finder, keep_pictures
        self._tracker, self._streams = Tracker(), dict[int, _Stream]()
        self._waiting: deque[_Waiting] = deque()
        self._by_number: dict[int, _Waiting] = {}

    def predict(self, frames: Iterable[VideoFrame], *, is_live: bool = False) -> Iterator[PredictedFrame]:
        """Yields each frame with its predictions, in order; those of a film that cannot be read on, too.

        Raises:
            DataError, OSError: those of `frames`.
        """
        try:
            for batch in found_batches(self._predictor.frame_model, self._finder, frames, is_live=is_live):
                self._add(batch)
                yield from self._done()
        except (DataError, OSError):
            yield from self.rest()
            raise
        yield from self.rest()

    def rest(self) -> Iterator[PredictedFrame]:
        """Yields the frames that still wait, as those of a film that ends here; after a signal, too."""
        for track in list(self._streams):
            self._end(track)
        while self._waiting:
            frame = self._waiting.popleft()
            if frame.is_done:  # one of a batch in which a signal came may have faces that were not predicted
                yield self._predicted(frame)
        self._by_number.clear()

    def _add(self, batch: Sequence[FoundFrame]) -> None:
        crops = [crop for each in batch for crop in each.crops]
        features, logits = self._predictor.features(crops, 0) if crops else (np.empty(0), np.empty(0))
        start = 0
        for each in batch:
            own = slice(start, start := start + len(each.crops))
            self._add_frame(each, features[own], logits[own])

    def _add_frame(self, each: FoundFrame, features: np.ndarray, logits: np.ndarray) -> None:
        number, time, pixels = each.frame
        tracks = tuple(self._tracker.numbers(each.found.faces, time))
        picture = encode_jpeg(pixels, QUALITY) if self._keep_pictures else None
        waiting = _Waiting(number, time, each.found.faces, each.found.note, tracks, picture)
        self._waiting.append(waiting)
        self._by_number[number] = waiting
        for track, feature_2F, logits_2C in zip(tracks, features, logits, strict=True):
            stream = self._streams.setdefault(track, _Stream(self._predictor.face()))
            stream.time = time
            self._note(track, stream.face.add(number, feature_2F, logits_2C))
        gone = [track for track, stream in self._streams.items() if time - stream.time > MEMORY_SECONDS]
        if len(self._waiting) > LONGEST_WAIT * self._predictor.card.window:
            oldest = self._waiting[0]
            gone += [track for track in oldest.tracks if track not in (*oldest.found, *gone)]
        for track in gone:
            self._end(track)

    def _end(self, track: int) -> None:
        self._note(track, self._streams[track].face.end())
        del self._streams[track]

    def _note(self, track: int, predictions: Iterable[FramePrediction]) -> None:
        for prediction in predictions:
            self._by_number[prediction.frame].found[track] = prediction

    def _done(self) -> Iterator[PredictedFrame]:
        while self._waiting and self._waiting[0].is_done:
            frame = self._waiting.popleft()
            del self._by_number[frame.number]
            yield self._predicted(frame)

    def _predicted(self, frame: _Waiting) -> PredictedFrame:
        rows = [frame.found[track].uncalibrated for track in frame.tracks]
        p_nC = np.stack(rows) if rows else np.empty((0, len(self._predictor.classes)), np.float32)
        prediction = Prediction.of(p_nC, self._predictor.classes, self._predictor.card.calibration)
        pixels = NO_PIXELS if frame.picture is None else decode(frame.picture, self._predictor.frame_model.limits)
        return PredictedFrame(
            VideoFrame(frame.number, frame.time, pixels), frame.faces, frame.note, frame.tracks, prediction
        )
