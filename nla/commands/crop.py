"""`nla crop`: crops the faces of a folder of photos, as training images, by the function that `nla predict` uses."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nla.commands.arguments import add_detector
from nla.commands.free_names import FreeNames
from nla.commands.image_inputs import (
    StoredImage,
    find_images,
    none_readable_error,
    read_photo,
    report_unread,
    report_unreadable,
    unread_below,
)
from nla.commands.new_folder import check_new_folder, new_folder
from nla.commands.parser import Parser, between
from nla.console import bar, complain, say
from nla.data.images import encode_jpeg, encode_png, fit
from nla.data.parallel import map_in_order
from nla.data.problems import Problem, first_lines
from nla.errors import CommandError, DataError
from nla.faces.choice import open_detector
from nla.faces.crop import FERPLUS, MARGINS, SHIFTS, Crop, crop_face, crop_for, read_crop
from nla.faces.detector import Detector, Face
from nla.io import write_json, write_rows
from nla.limits import LEAST_SIDE, MOST_SIDE, ImageLimits
from nla.text import shown

SIZE = 112
"""Side of the crops in pixels: that of the usual sets of aligned faces, such as MS-Celeb-1M's."""
QUALITY = 95
"""Of JPEG."""
AHEAD = 16
"""Photos read ahead, of which all crops are in memory."""
LIST, CROP, WITHOUT = "crops.csv", "crop.json", "without_face.csv"
"""Beside the crops: their photos and boxes; how they were made, for `nla predict --crop`; and photos without a face."""


@dataclass(frozen=True)
class Cropped:
    """The chosen faces of a photo, with their encoded crops."""

    path: Path
    faces: Sequence[Face]
    crops: Sequence[bytes]


def main(argv: Sequence[str]) -> None:
    """Writes a folder of crops.

    Raises:
        DataError: there is no photo, none can be read, or none has a face.
        CommandError: the folder to write is not empty, no detector is here, or an option has a wrong value.
        WeightsError: the detector's file cannot be loaded.
    """
    options = _parser().parse_args(argv)
    source, out = Path(options.source), Path(options.out)
    _check_folders(source, out)
    check_new_folder(out, (LIST, CROP), options.overwrite)
    names, detector = find_images([str(source)]), open_detector(options.detector)
    crop = _crop(options, detector.name)
    work = partial(_cropped, detector=detector, crop=crop, options=options)
    problems: list[Problem] = []
    with new_folder(out) as part:
        with bar("crop", "photos") as update:
            found = map_in_order(work, names, AHEAD)
            rows, without = _write(part, source, found, problems, lambda done: update(done, len(names)))
        if len(problems) == len(names):
            raise none_readable_error(problems)
        if not rows:
            raise DataError(f"{shown(options.source)}: no photo has a face. Try another --detector.")
        write_rows(part / LIST, rows)
        write_json(part / CROP, asdict(crop))
        if without:
            write_rows(part / WITHOUT, [{"photo": problem.file} for problem in without])
    report_unreadable(problems)
    report_unread(unread_below([str(source)]))
    if without:
        complain("\n".join([f"photos without a face, left out: {len(without):,}", *first_lines(without)]))
    say(f"{len(names) - len(problems):,} photos, {len(rows):,} crops: {out}")


def _check_folders(source: Path, out: Path) -> None:
    """Raises an NLAError unless `source` is a folder, and neither of the two is in the other."""
    if not source.is_dir():
        raise DataError(f"{shown(str(source))}: no such folder. Name a folder with photos.")
    inside, outside = out.resolve(), source.resolve()
    if inside.is_relative_to(outside) or outside.is_relative_to(inside):
        raise CommandError(f"{shown(str(out))}: one folder would lie in the other. Name one elsewhere.")


def _crop(options: argparse.Namespace, detector: str) -> Crop:
    """The crop that the options ask for, by the boxes of the detector; that of FERPlus where they say nothing."""
    crop = crop_for(read_crop(options.like) if options.like else None, detector)
    own = {name: getattr(options, name) for name in ("margin", "down") if getattr(options, name) is not None}
    crop = replace(crop, **own, align=crop.align or options.align)
    if crop.align and detector == "dlib":
        raise CommandError("--align: dlib gives no points of the eyes. Use --detector yunet (`nla detector list`).")
    return crop


def _cropped(name: str, detector: Detector, crop: Crop, options: argparse.Namespace) -> Cropped | Problem:
    """Finds, crops and encodes; runs in several threads."""
    pixels = read_photo(StoredImage(name, Path(name)), ImageLimits())
    if isinstance(pixels, Problem):
        return pixels
    faces = detector.detect(pixels)
    if not options.all:
        faces = sorted(faces, key=lambda face: face.width * face.height)[-1:]
    fitted = (
        fit(square, options.size, "grey" if pixels.ndim == 2 else "rgb")
        for square in (crop_face(pixels, face, crop) for face in faces)
    )
    encoded = [encode_png(face) if options.format == "png" else encode_jpeg(face, QUALITY) for face in fitted]
    return Cropped(Path(name), faces, encoded)


def _write(
    folder: Path,
    source: Path,
    found: Iterable[Cropped | Problem],
    problems: list[Problem],
    update: Callable[[int], None],
) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Writes the crops; returns the rows of LIST, and the photos without a face."""
    rows: list[dict[str, Any]] = []
    without: list[Problem] = []
    names = FreeNames()
    for done, photo in enumerate(found, 1):
        update(done)
        if isinstance(photo, Problem):
            problems.append(photo)
            continue
        if not photo.faces:
            without.append(Problem(shown(str(photo.path)), None, "no face found"))
        below = photo.path.relative_to(source)
        for i, (face, content) in enumerate(zip(photo.faces, photo.crops, strict=True)):
            number = f"-face{i}" if len(photo.faces) > 1 else ""
            suffix = ".png" if content.startswith(b"\x89PNG") else ".jpg"
            name = names.take(below.with_name(f"{below.stem}{number}{suffix}"))
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
            rows.append({"crop": shown(name.as_posix()), "photo": shown(str(photo.path)), "face": i, **_box(face)})
    return rows, without


def _box(face: Face) -> dict[str, str]:
    numbers = {name: getattr(face, name) for name in ("left", "top", "width", "height", "score")}
    return {name: f"{value:.3f}" for name, value in numbers.items()}


def _parser() -> Parser:
    parser = Parser("nla crop", description="Crops the faces of photos, as training images.")
    parser.add_argument("source", metavar="SOURCE", help="a folder with photos at any depth")
    parser.add_argument("out", metavar="OUT", help="a new folder, which gets the same folders as SOURCE")
    add_detector(parser)
    default = FERPLUS["yunet"]
    margin = f"on each side, as a share of the box (that of FERPlus; by yunet {default.margin:g})"
    parser.add_argument("--margin", type=between(*MARGINS), metavar="SHARE", help=margin)
    down = f"how far the crop is below the box's middle (that of FERPlus; by yunet {default.down:g})"
    parser.add_argument("--down", type=between(*SHIFTS), metavar="SHARE", help=down)
    parser.add_argument("--align", action="store_true", help="rotate the crop so that the eyes are level; needs yunet")
    parser.add_argument("--like", type=Path, metavar="FILE", help="margins of the crop.json of an earlier crop")
    side = f"in pixels, from {LEAST_SIDE} to {MOST_SIDE} (%(default)s)"
    parser.add_argument("--size", type=_side, default=SIZE, metavar="SIDE", help=side)
    parser.add_argument("--format", choices=("png", "jpg"), default="png", help="(%(default)s)")
    parser.add_argument("--all", action="store_true", help="all faces of a photo, instead of the largest")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT, if it is an earlier result")
    return parser


def _side(text: str) -> int:
    """A side that a network can be trained on. Raises ArgumentTypeError for anything else."""
    if not (text.isascii() and text.isdecimal() and LEAST_SIDE <= int(text) <= MOST_SIDE):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {LEAST_SIDE} to {MOST_SIDE}")
    return int(text)
