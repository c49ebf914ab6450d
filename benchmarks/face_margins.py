"""Where each detector's box lies in the faces of FERPlus: the default crop of `nla.faces`.

    NLA_FERPLUS=FOLDER python benchmarks/face_margins.py

Training faces that FERPlus keeps (48 px, no alignment) are enlarged, with their edges repeated around them, and each
detector looks for them. The medians of the box's middle and side within the face give margin and shift of the crop that
shows a face as FERPlus does. dlib's boxes come in steps of a sixth, so each face is enlarged by another factor.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from records import commit, write_record

from nla.data.images import Pixels
from nla.errors import NLAError
from nla.faces.choice import NAMES, open_detector
from nla.faces.crop import Crop
from nla.faces.detector import Detector, Face
from nla.faces.photo import fills

SIDE, FACES, SEED = 48, 500, 0
LEAST, MOST = 120, 260  # pixels of an enlarged face
AROUND = 0.5  # repeated edge on each side, as a share of the face
RECORD = "face-margins"


def main() -> None:
    """Measures, prints, and writes the record."""
    faces = list(training_faces(Path(os.environ["NLA_FERPLUS"])))
    rng = np.random.default_rng(SEED)
    chosen = [faces[i] for i in rng.choice(len(faces), FACES, replace=False)]
    sides = np.exp(rng.uniform(np.log(LEAST), np.log(MOST), FACES)).round().astype(int)
    results = {name: measured(open_detector(name), chosen, sides.tolist()) for name in NAMES[1:]}
    record = {"command": "python benchmarks/face_margins.py", "n": FACES, "seed": SEED, "commit": commit()}
    record |= {"opencv": cv2.__version__, "detectors": results}
    for name, result in results.items():
        print(name, result)
    write_record(RECORD, record)


def table(record: dict[str, Any]) -> str:
    """The rows of docs/faces.md."""
    lines = ["| detector | boxes found | side of the box in the face | `margin` | `down` |", "|---|---|---|---|---|"]
    for name, result in record["detectors"].items():
        low, middle, high = (f"{value:.2f}" for value in result["side"])
        found = f"{result['found']} of {record['n']}"
        crop = f"{result['margin']:.2f} | {result['down']:.2f}"
        lines.append(f"| `{name}` | {found} | {middle} ({low} to {high}) | {crop} |")
    return "\n".join(lines)


def training_faces(folder: Path) -> Iterator[Pixels]:
    """Training images whose annotators saw a face: those with fewer than 5 of 10 votes for "not a face"."""
    with (folder / "fer2013.csv").open() as pixels, (folder / "fer2013new.csv").open() as votes:
        for face, vote in zip(csv.DictReader(pixels), csv.DictReader(votes), strict=True):
            if face["Usage"] == "Training" and int(vote["NF"]) < 5:
                yield np.array(face["pixels"].split(), np.uint8).reshape(SIDE, SIDE)


def measured(detector: Detector, faces: list[Pixels], sides: list[int]) -> dict[str, Any]:
    """Median and quartiles of the boxes, and the crop that follows from the medians."""
    found = [(face, side) for pixels, side in zip(faces, sides, strict=True) if (face := best(detector, pixels, side))]
    x, y, side = np.array([(*face.center, face.side) for face, _ in found]).T
    quartiles = {name: np.percentile(values, (25, 50, 75)) for name, values in (("x", x), ("y", y), ("side", side))}
    middle = {name: float(values[1]) for name, values in quartiles.items()}
    crop = {"margin": (1 / middle["side"] - 1) / 2, "down": (0.5 - middle["y"]) / middle["side"]}
    return {
        "found": len(found),
        **{name: values.round(4).tolist() for name, values in quartiles.items()},
        **{name: round(value, 3) for name, value in crop.items()},
        "taken_as_crops": taken(detector, faces, sides, Crop(detector.name, **crop)),
    }


def best(detector: Detector, pixels: Pixels, side: int) -> Face | None:
    """The best face around an enlarged image, with the image as its unit: (0, 0) to (1, 1)."""
    around = round(AROUND * side)
    large = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC)
    photo = cv2.copyMakeBorder(large, around, around, around, around, cv2.BORDER_REPLICATE)
    for face in detector.detect(photo)[:1]:
        box = Face(face.left - around, face.top - around, face.width, face.height, face.score)
        return box.enlarged(1 / side)
    return None


def taken(detector: Detector, faces: list[Pixels], sides: list[int], crop: Crop) -> dict[str, int]:
    """Of the enlarged faces themselves: in how many one face is found, and how many then count as crops."""
    large = [cv2.resize(p, (s, s), interpolation=cv2.INTER_CUBIC) for p, s in zip(faces, sides, strict=True)]
    found = [(image, boxes[0]) for image in large if len(boxes := detector.detect(image)) == 1]
    return {"one_face": len(found), "fills": sum(fills(image, face, crop) for image, face in found)}


if __name__ == "__main__":
    try:
        main()
    except NLAError as error:
        sys.exit(str(error))
