"""The same face in consecutive frames gets the same number: by how much its box overlaps the one before.

Bochinski, Eiselein, Sikora: High-Speed Tracking-by-Detection Without Using Image Information. AVSS 2017. No picture is
compared, so that people who change places, or come back later, can get another number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nla.faces.detector import Face

LEAST_OVERLAP = 0.3
"""Intersection over union from which two boxes are of one face: the lower of the values that the paper tries."""
MEMORY_SECONDS = 1.0
"""How long a face may be missing: a turned head, or someone who walks in front."""


@dataclass
class _Track:
    number: int
    face: Face
    time: float
    """Of the last frame that showed it."""


class Tracker:
    """Numbers the faces of one video, from 0; it holds those of the last second alone."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._next = 0

    def numbers(self, faces: Sequence[Face | None], time: float) -> list[int]:
        """The numbers of the faces of the next frame.

        Args:
            faces: None stands for a frame that is the crop of one face.
            time: of the frame, in seconds; not before that of the last one.
        """
        self._tracks = [track for track in self._tracks if time - track.time <= MEMORY_SECONDS]
        whole = Face(0, 0, 1, 1, 1)
        boxes = [whole if face is None else face for face in faces]
        pairs = sorted(
            ((track.face.overlap(box), track, i) for track in self._tracks for i, box in enumerate(boxes)),
            key=lambda pair: (-pair[0], pair[1].number, pair[2]),
        )
        found: dict[int, _Track] = {}
        for share, track, i in pairs:
            if share >= LEAST_OVERLAP and i not in found and track not in found.values():
                found[i] = track
        for i, box in enumerate(boxes):
            if i not in found:
                found[i] = _Track(self._next, box, time)
                self._tracks.append(found[i])
                self._next += 1
            found[i].face, found[i].time = box, time
        return [found[i].number for i in range(len(boxes))]
