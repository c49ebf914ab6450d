"""`nla predict`: finds the faces in photos and films, and writes label, confidence and probabilities of each."""

from __future__ import annotations

import argparse
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import filterfalse
from pathlib import Path
from typing import TYPE_CHECKING

from nla.commands.arguments import add_detector, add_device, add_model
from nla.commands.drawn_faces import Pictures
from nla.commands.drawn_film import Draw
from nla.commands.film_faces import PredictedFrame, predict_frames
from nla.commands.found_faces import PredictedFaces, predict_photos
from nla.commands.image_inputs import (
    StoredImage,
    find_images,
    none_readable_error,
    report_unread,
    report_unreadable,
    unread_below,
)
from nla.commands.parser import Parser, between, positive
from nla.commands.row_files import STDOUT, SUFFIXES, Row, Write, check_suffix, row_file
from nla.commands.streams import Stream, find_films, is_camera, is_stream
from nla.console import bar, complain, say
from nla.data.problems import Problem
from nla.errors import CommandError, DataError
from nla.faces.crop import read_crop, stated_crop
from nla.faces.detector import Face
from nla.faces.photo import FaceFinder
from nla.models.default_model import chosen_model
from nla.models.saved_model import WEIGHTS
from nla.serving.predictor import Predictor
from nla.text import shown
from nla.video.model_pair import ModelPair, find_pair
from nla.video.sources.video_file import VIDEOS

if TYPE_CHECKING:
    from nla.video.streaming import StreamPredictor

OF_FRAMES = {"frame": int, "time": float, "track": int}
"""Columns of films: the number of the frame, from 1, its second, and the number of the face over the frames."""
UNCERTAIN = "uncertain"
"""Label of a face whose most probable class has less than --at-least."""
BOX = ("left", "top", "width", "height", "score")
FERPLUS = "ferplus"
"""Name of the source whose crop is the default."""
UNSTATED = (
    "warning: the model's card does not say how its training faces were cropped, so that of FERPlus is used. "
    "Name it by --crop (docs/faces.md)."
)
SMOOTH = (
    "--smooth: the sequence model sees the frames around each already. Leave it out, or name the frame model alone: "
    "--model {model}."
)
STILL = "warning: photos are classified by the frame model alone: the sequence model needs a film"
UNCALIBRATED = (
    "warning: the probabilities of the sequence model are not calibrated: its card has no fit, or nothing was "
    "better on validation than to leave them as they are"
)


def main(argv: Sequence[str]) -> None:
    """Writes one row per face, and one for an image or a frame without any.

    Raises:
        DataError: there is no image, or none can be read.
        WeightsError: the model, or the detector's file, cannot be loaded.
        CommandError: no detector, device or camera is here, an option has a wrong value or does not suit the model, or
            pictures would replace photos.
        KeyboardInterrupt: a film was interrupted; what came before is written.
    """
    options = _parser().parse_args(argv)
    check_suffix(options.out)
    named = [path for path in options.paths if is_stream(path)]
    paths = [path for path in options.paths if path not in named]
    films = [name for name in find_films(paths) if name not in named]
    streams = [*named, *films]
    names = find_images(paths, films) if paths else []
    model = chosen_model(options.model)
    pair = find_pair(model)
    sequence = _sequence(pair, options) if pair and streams else None
    frame_model = pair.frame_model if pair else model
    predictor = sequence.frame_model if sequence else Predictor.load(frame_model, device=options.device)
    crop = read_crop(options.crop) if options.crop else stated_crop(predictor.crop)
    finder = FaceFinder(crop, predictor.model.image.size, options.detector, cropped=options.cropped)
    pictures = Pictures(options.draw, [*names, *filterfalse(is_camera, streams)]) if options.draw else None
    run = _Run(options, predictor, sequence, finder, pictures, columns(predictor.classes, of_frames=bool(streams)))
    with row_file(options.out, run.columns) as write:
        if names:
            run.predict_photos(names, write)
        is_cut = any(run.predict_stream(stream, write) for stream in streams)  # a signal ends all of them
        if not (run.counts["images"] or run.counts["frames"] or is_cut):
            raise none_readable_error(run.problems)
    report_unreadable(run.problems)
    report_unread(unread_below(paths, films))
    if finder.is_open and crop is None and predictor.source != FERPLUS:
        complain(UNSTATED)
    if predictor.caution:
        complain(f"warning: {predictor.caution}")
    if pair and names:
        complain(STILL)
    if sequence and sequence.card.calibration.is_identity:
        complain(UNCALIBRATED)
    if options.out != STDOUT:
        say(f"{_counted(run.counts)}: {options.out}")
    if is_cut and not all(map(is_camera, streams)):  # a signal is how a camera is meant to end
        raise KeyboardInterrupt


def _sequence(pair: ModelPair, options: argparse.Namespace) -> StreamPredictor:
    """The sequence model with its frame model. Raises CommandError if an option does not suit it."""
    from nla.video.streaming import StreamPredictor  # imports Arrow, which takes half a second

    if options.smooth:
        raise CommandError(SMOOTH.format(model=shown(str(pair.frame_model / WEIGHTS))))
    return StreamPredictor.load(*pair, device=options.device)


@dataclass
class _Run:
    """Predicts the inputs one after the other, and counts."""

    options: argparse.Namespace
    predictor: Predictor
    sequence: StreamPredictor | None
    """Frame model and sequence model, for films, if they are given."""
    finder: FaceFinder
    pictures: Pictures | None
    columns: dict[str, type]
    problems: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def predict_photos(self, names: Sequence[str], write: Write) -> None:
        """Writes the rows of photos, and their pictures."""
        stored = (StoredImage(name, Path(name)) for name in names)
        with self._progress("images") as update:
            for photo in predict_photos(self.predictor, self.finder, stored, self.problems):
                rows = list(face_rows(photo.image.path, photo, self.predictor.classes, self.options.at_least))
                write([self._complete(row) for row in rows])
                if self.pictures:
                    self.pictures.draw(photo, rows, self.predictor.limits)
                self.counts += Counter(images=1, faces=len(photo.faces), without=not photo.faces)
                update(self.counts["images"] + len(self.problems), len(names))

    def predict_stream(self, name: str, write: Write) -> bool:
        """Writes the rows of a film or camera, and draws it; returns whether a signal ended it.

        What came before the signal is kept.
        """
        stream = Stream.of(name, self.predictor.limits, self.options.every)
        draw = self.pictures.film(name, stream.rate) if self.pictures else contextlib.nullcontext(None)
        try:
            with self._progress("frames") as update, draw as add:
                return self._predict_frames(stream, write, add, update)
        except DataError as error:
            self.problems.append(Problem(name, None, str(error)))
        except OSError as error:
            if error.filename != name:
                raise
            self.problems.append(Problem(name, None, f"cannot be read: {error.strerror}"))
        return False

    def _predict_frames(
        self, stream: Stream, write: Write, draw: Draw | None, update: Callable[[int, int], None]
    ) -> bool:
        """As `predict_stream`; a signal must not pass through what encloses this, which would discard its files."""
        options, film = self.options, None
        if self.sequence is None:
            frames = predict_frames(
                self.predictor, self.finder, stream.frames(), options.smooth, is_live=stream.is_live
            )
        else:
            from nla.commands.film_sequences import FilmSequences

            film = FilmSequences(self.sequence, self.finder, keep_pictures=draw is not None)
            frames = film.predict(stream.frames(), is_live=stream.is_live)
        done = itertools.count(1)
        try:
            for predicted in frames:
                self._add_frame(stream.name, predicted, write, draw)
                update(count := next(done), max(count, stream.total))
        except KeyboardInterrupt:
            for predicted in film.rest() if film else ():
                self._add_frame(stream.name, predicted, write, draw)
            return True
        return False

    def _add_frame(self, name: str, predicted: PredictedFrame, write: Write, draw: Draw | None) -> None:
        rows = list(face_rows(name, predicted, self.predictor.classes, self.options.at_least))
        own = {"frame": predicted.frame.number, "time": predicted.frame.time}
        tracks = predicted.tracks or (None,)
        write([self._complete({**row, **own, "track": t}) for row, t in zip(rows, tracks, strict=True)])
        if draw:
            draw(predicted.frame.pixels, rows if predicted.faces else [])
        self.counts += Counter(frames=1, faces=len(predicted.faces), without=not predicted.faces)

    def _complete(self, row: Row) -> Row:
        """The row with all columns, in their order; those that it lacks are None. An answer has the model's caution."""
        found = {name: row.get(name) for name in self.columns}
        if row["label"] is not None and self.predictor.caution:
            found["note"] = "; ".join(note for note in (row["note"], self.predictor.caution) if note)
        return found

    def _progress(self, unit: str) -> contextlib.AbstractContextManager[Callable[[int, int], None]]:
        """A progress bar, unless the rows go to standard output."""
        if self.options.out == STDOUT:
            return contextlib.nullcontext(lambda done, total: None)
        return bar("predict", unit)


def _counted(counts: Counter[str]) -> str:
    """What was read, in words."""
    inputs = ", ".join(f"{counts[what]:,} {what}" for what in ("images", "frames") if counts[what])
    without = f", {counts['without']:,} without a face" if counts["without"] else ""
    return f"{inputs}, {counts['faces']:,} faces{without}"


def columns(classes: Sequence[str], *, of_frames: bool = False) -> dict[str, type]:
    """The columns of a row, each with its type; with those of films if there are any."""
    numbers = ("confidence", "ambiguity", *(f"p_{name}" for name in classes))
    return {
        "path": str,
        **(OF_FRAMES if of_frames else {}),
        "face": int,
        **dict.fromkeys(BOX, float),
        "label": str,
        **dict.fromkeys(numbers, float),
        "note": str,
    }


def face_rows(
    path: str, predicted: PredictedFaces | PredictedFrame, classes: Sequence[str], at_least: float = 0.0
) -> Iterator[Row]:
    """A row for each face, numbered from 0; or one without label, with the reason."""
    empty: Row = {**dict.fromkeys(columns(classes)), "path": shown(path), "note": predicted.note or None}
    if not predicted.faces:
        yield empty
    found = predicted.prediction
    numbers = (found.confidence.tolist(), found.ambiguity.tolist(), found.probabilities.tolist())
    answers = zip(predicted.faces, found.label, *numbers, strict=True)
    for i, (face, label, confidence, ambiguity, p_C) in enumerate(answers):
        yield {
            **empty,
            "face": i,
            **({} if face is None else _box(face)),
            "label": label if confidence >= at_least else UNCERTAIN,
            "confidence": confidence,
            "ambiguity": ambiguity,
            **{f"p_{name}": p for name, p in zip(classes, p_C, strict=True)},
        }


def _box(face: Face) -> Row:
    return {name: getattr(face, name) for name in BOX}


def _parser() -> Parser:
    parser = Parser("nla predict", description="Label, confidence and probabilities of the faces in photos and films.")
    paths = f"an image, a film ({', '.join(VIDEOS)}), a folder with some at any depth, or the number of a camera"
    parser.add_argument("paths", nargs="+", metavar="PATH", help=paths)
    add_model(parser)
    add_device(parser)
    out = f"{', '.join(SUFFIXES)}; {STDOUT} is standard output, as CSV (%(default)s)"
    parser.add_argument("--out", default="predictions.csv", help=out)
    parser.add_argument("--cropped", action="store_true", help="the images are crops of faces: no detector is used")
    add_detector(parser)
    parser.add_argument("--crop", type=Path, metavar="FILE", help="crop.json of `nla crop`, instead of the card's")
    least = f"label faces {UNCERTAIN} whose most probable class has less (%(default)s)"
    parser.add_argument("--at-least", type=between(0, 1), default=0.0, metavar="P", help=least)
    parser.add_argument(
        "--draw", type=Path, metavar="FOLDER", help="write photos and films with boxes and labels there"
    )
    every = "of a film, take each N-th frame (%(default)s)"
    parser.add_argument("--every", type=positive, default=1, metavar="N", help=every)
    smooth = "average the probabilities of a face in a film over about so long (%(default)s)"
    parser.add_argument("--smooth", type=between(0, 60), default=0.0, metavar="SECONDS", help=smooth)
    return parser
