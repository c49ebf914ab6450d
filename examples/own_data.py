"""Training on a folder of labelled images, one subfolder per class; without a folder, on one of drawn faces.

    python examples/own_data.py [FOLDER]

For more than memory holds, or for label noise and votes, use the pipeline: docs/datasets.md.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from nla import fit
from nla.data.images import encode_png
from nla.data.sources.synthetic import CLASSES, make_faces
from nla.fitting import FitResult

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


def main(folder: Path | None = None, faces: int = 800, epochs: int = 5) -> FitResult:
    """Trains on the images FOLDER/CLASS/*."""
    with tempfile.TemporaryDirectory() as drawn:
        if folder is None:
            folder = Path(drawn)
            write_faces(folder, faces)
        paths = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES)
        names = [path.parent.name for path in paths]
        print(f"{len(paths)} images of {len(set(names))} classes")
        return fit(
            (paths, names),
            image_size=48,  # all images are resized to squares
            color="grey",
            epochs=epochs,
            batch_size=32,
            params={"model": {"width": 8}, "train": {"sampler": "balanced"}},  # small classes as often as large ones
        )


def write_faces(folder: Path, count: int) -> None:
    """Writes drawn faces as FOLDER/CLASS/NUMBER.png."""
    for number, (image, label) in enumerate(zip(*make_faces(count), strict=True)):
        path = folder / CLASSES[label] / f"{number:04d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_png(image))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
