"""The table of frames: faces of videos, each with its video, its number there, and its time if that is known.

FRAMES has all columns of FACES, so that whatever reads faces reads frames. A frame without a label was not annotated:
it is seen by models of clips, which learn nothing from its label. Rows of a video follow each other, by frame number.
A frame that is missing, because no face was found in it, has no row: its number is not used twice.

Legend: N frames of the table, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nla.data.schema import FACES, REMAKE, SPLITS, TableInfo, dense, read_faces
from nla.errors import DataError
from nla.io import read_columns

NO_LABEL = -1
"""In arrays of labels: not annotated."""
POSITION = pa.schema(
    [
        ("video", pa.string()),
        ("frame", pa.int32()),  # number in the video, as the source counts
        ("time", pa.float64()),  # seconds from the start of the video; null where the source does not tell
    ]
)
FRAMES = pa.schema([*FACES, *POSITION])


@dataclass(frozen=True)
class Frames:
    """All of a table of frames but its images."""

    info: TableInfo
    video_N: np.ndarray
    """Number of the video in `videos`, int32, never decreasing."""
    videos: tuple[str, ...]
    frame_N: np.ndarray
    """int32, increasing within a video."""
    time_N: np.ndarray
    """Seconds, NaN where unknown, float64."""
    split_N: np.ndarray
    """Number in SPLITS, int8; the same for all frames of a video."""
    label_N: np.ndarray
    """int8, NO_LABEL where nobody annotated."""
    votes_NV: np.ndarray
    """Counts, one per name in `info.votes`, int16; 0 without."""
    posterior_NC: np.ndarray
    """True P(class | frame), float32; NaN rows where unknown."""

    def __len__(self) -> int:
        return len(self.frame_N)


def frame_batch(
    faces: pa.RecordBatch, video: np.ndarray, frame: np.ndarray, time: np.ndarray | None = None
) -> pa.RecordBatch:
    """A record batch of FRAMES from one of FACES, with names of videos, frame numbers, and seconds (NaN: unknown)."""
    seconds = np.full(len(faces), np.nan) if time is None else time
    columns = [
        pa.array(video, pa.string()),
        pa.array(frame, pa.int32()),
        pa.array(seconds, pa.float64(), mask=np.isnan(seconds)),
    ]
    return pa.RecordBatch.from_arrays([*faces.columns, *columns], schema=FRAMES)


def read_frames(path: Path) -> Frames:
    """Reads a table of frames, without the images.

    Raises:
        DataError: the table is missing or damaged, a column has a value that it cannot have, or the rows of a video do
            not follow each other by frame number, or are in two splits.
    """
    info, table = read_faces(path)
    place = read_columns(path, POSITION, path, REMAKE, nullable=("time",))
    names = place["video"].combine_chunks().dictionary_encode()
    frames = Frames(
        info,
        names.indices.to_numpy(),
        tuple(names.dictionary.to_pylist()),
        place["frame"].to_numpy(),
        pc.fill_null(place["time"], np.nan).to_numpy(),
        pc.index_in(table["split"], value_set=pa.array(SPLITS)).to_numpy().astype(np.int8),
        pc.fill_null(table["label"], NO_LABEL).to_numpy(),
        dense(table["votes"], len(info.votes), np.int16, 0),
        dense(table["posterior"], len(info.classes), np.float32, np.nan),
    )
    _check_order(path, frames)
    return frames


def _check_order(path: Path, frames: Frames) -> None:
    video_N, frame_N, split_N = frames.video_N, frames.frame_N, frames.split_N
    same_N = video_N[1:] == video_N[:-1]
    if (np.diff(video_N) < 0).any() or (np.diff(frame_N)[same_N] <= 0).any():
        raise DataError(f"{path}: the frames of a video must follow each other by their numbers. {REMAKE}")
    if (split_N[1:] != split_N[:-1])[same_N].any():
        raise DataError(f"{path}: a video is in two splits. {REMAKE}")
