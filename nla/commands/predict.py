"""`nla predict`: finds the faces in photos, and writes label, confidence and probabilities of each."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nla.commands.arguments import add_detector, add_model
from nla.commands.drawn_faces import Pictures
from nla.commands.found_faces import PredictedFaces, predict_photos
from nla.commands.image_inputs import (
    StoredImage,
    find_images,
    none_readable_error,
    report_unread,
    report_unreadable,
    unread_below,
)
from nla.commands.parser import Parser, between
from nla.commands.row_files import STDOUT, SUFFIXES, Row, check_suffix, row_file
from nla.console import bar, complain, say
from nla.data.problems import Problem
from nla.faces.crop import read_crop, stated_crop
from nla.faces.detector import Face
from nla.faces.photo import FaceFinder
from nla.serving.predictor import Predictor
from nla.text import shown

UNCERTAIN = "uncertain"
"""Label of a face whose most probable class has less than --at-least."""
BOX = ("left", "top", "width", "height", "score")
FERPLUS = "ferplus"
"""Name of the source whose crop is the default."""
UNSTATED = (
    "warning: the model's card does not say how its training faces were cropped, so that of FERPlus is used. "
    "Name it by --crop (docs/faces.md)."
)


def main(argv: Sequence[str]) -> None:
    """Writes one row per face, and one for an image without any.

    Raises:
        DataError: there is no image, or none can be read.
        WeightsError: the model, or the detector's file, cannot be loaded.
        CommandError: no detector is here, an option has a wrong value, or pictures would replace photos.
    """
    options = _parser().parse_args(argv)
    check_suffix(options.out)
    names, predictor = find_images(options.paths), Predictor.load(options.model)
    crop = read_crop(options.crop) if options.crop else stated_crop(predictor.crop)
    finder = FaceFinder(crop, predictor.model.image.size, options.detector, cropped=options.cropped)
    pictures = Pictures(options.draw, names) if options.draw else None
    problems: list[Problem] = []
    counts: Counter[str] = Counter()
    with _progress(options.out) as update, row_file(options.out, columns(predictor.classes)) as write:
        stored = (StoredImage(name, Path(name)) for name in names)
        for photo in predict_photos(predictor, finder, stored, problems):
            rows = list(photo_rows(photo, predictor.classes, options.at_least))
            write(rows)
            if pictures:
                pictures.draw(photo, rows, predictor.limits)
            counts += Counter(images=1, faces=len(photo.faces), without=not photo.faces)
            update(counts["images"] + len(problems), len(names))
        if not counts["images"]:
            raise none_readable_error(problems)
    report_unreadable(problems)
    report_unread(unread_below(options.paths))
    if finder.is_open and crop is None and predictor.source != FERPLUS:
        complain(UNSTATED)
    if options.out != STDOUT:
        without = f", {counts['without']:,} without a face" if counts["without"] else ""
        say(f"{counts['images']:,} images, {counts['faces']:,} faces{without}: {options.out}")


def columns(classes: Sequence[str]) -> dict[str, type]:
    """The columns of a row, each with its type."""
    numbers = ("confidence", "ambiguity", *(f"p_{name}" for name in classes))
    return {
        "path": str,
        "face": int,
        **dict.fromkeys(BOX, float),
        "label": str,
        **dict.fromkeys(numbers, float),
        "note": str,
    }


def photo_rows(photo: PredictedFaces, classes: Sequence[str], at_least: float = 0.0) -> Iterator[Row]:
    """A row for each face, numbered from 0; or one without label, with the reason."""
    empty: Row = {**dict.fromkeys(columns(classes)), "path": shown(photo.image.path), "note": photo.note or None}
    if not photo.faces:
        yield empty
    found = photo.prediction
    numbers = (found.confidence.tolist(), found.ambiguity.tolist(), found.probabilities.tolist())
    predicted = zip(photo.faces, found.label, *numbers, strict=True)
    for i, (face, label, confidence, ambiguity, p_C) in enumerate(predicted):
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
    parser = Parser("nla predict", description="Label, confidence and probabilities of the faces in photos.")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="an image, or a folder with images at any depth")
    add_model(parser)
    out = f"{', '.join(SUFFIXES)}; {STDOUT} is standard output, as CSV (%(default)s)"
    parser.add_argument("--out", default="predictions.csv", help=out)
    parser.add_argument("--cropped", action="store_true", help="the images are crops of faces: no detector is used")
    add_detector(parser)
    parser.add_argument("--crop", type=Path, metavar="FILE", help="crop.json of `nla crop`, instead of the card's")
    least = f"label faces {UNCERTAIN} whose most probable class has less (%(default)s)"
    parser.add_argument("--at-least", type=between(0, 1), default=0.0, metavar="P", help=least)
    parser.add_argument("--draw", type=Path, metavar="FOLDER", help="write the photos with boxes and labels there")
    return parser


def _progress(out: str) -> contextlib.AbstractContextManager[Callable[[int, int], None]]:
    """A progress bar, unless the rows go to standard output."""
    return contextlib.nullcontext(lambda done, total: None) if out == STDOUT else bar("predict", "images")
