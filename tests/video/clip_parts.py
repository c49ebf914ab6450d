"""Small folders of clips for the tests of their sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nla.config.clips import ClipsConfig
from nla.data.images import decode, encode_png
from nla.data.ingest import ingest
from nla.video.frames import FRAMES
from nla.video.sources import open_source

HEADER = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"


def face(frame: int, video: int = 0) -> np.ndarray:
    """An image [20, 20] that tells its frame and its video."""
    return np.full((20, 20), frame + 40 * video, np.uint8)


def write_frames(folder: Path, frames: Iterable[int], video: int = 0) -> None:
    """FOLDER/00001.png ..., which the suffix of the layout does not have, but whose pixels are exact."""
    folder.mkdir(parents=True)
    for frame in frames:
        (folder / f"{frame:05d}.png").write_bytes(encode_png(face(frame, video)))


def write_expressions(root: Path, split: str, video: str, labels: Sequence[Any]) -> Path:
    """VIDEO.txt of Aff-Wild2."""
    path = root / "EXPR_Classification_Challenge" / split / f"{video}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER, *map(str, labels)]) + "\n")
    return path


def write_list(path: Path, labels: Mapping[int, str], times: Mapping[int, float] | None = None) -> None:
    """VIDEO.csv of the source `clips`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{frame},{label}" + (f",{times[frame]}" if times else "") for frame, label in labels.items()]
    path.write_text("\n".join(["frame,label" + (",time" if times else ""), *rows]) + "\n")


def write_video(path: Path, frames: int, fps: float = 25.0, codec: str = "FFV1") -> None:
    """A video, without loss by the codec FFV1, whose frame k, from 1, has the grey k * 4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (32, 32))
    assert writer.isOpened()
    for frame in range(1, frames + 1):
        writer.write(np.full((32, 32, 3), frame * 4, np.uint8))
    writer.release()


def read(root: Path, out: Path, source: str, **config: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of the table of frames, with the grey of the image as `grey`; and the report."""
    import pyarrow.parquet as pq

    opened = open_source(ClipsConfig(source=source, **config), root)
    on_bad = config.get("on_bad", "error")
    report = ingest(opened, out, on_bad=on_bad, schema=FRAMES)
    rows = pq.read_table(out).to_pylist()
    for row in rows:
        row["grey"] = int(decode(row.pop("image")["bytes"]).ravel()[0])
        row["class"] = None if row["label"] is None else opened.classes[row["label"]]
    return rows, report
