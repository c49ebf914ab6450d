"""Films and cameras given to a command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nla.commands.image_inputs import folders_below
from nla.console import complain
from nla.limits import ImageLimits
from nla.text import shown
from nla.video.camera import read_camera
from nla.video.sources.video_file import VIDEOS, VideoFrame, read_video, stated_frames, stated_rate


def is_stream(path: str) -> bool:
    """Whether an argument names a film, by its suffix, or a camera."""
    return is_camera(path) or (Path(path).suffix.lower() in VIDEOS and not Path(path).is_dir())


def find_films(paths: Iterable[str]) -> list[str]:
    """All films below the folders among `paths`, except hidden ones: sorted, each once."""
    folders = {folder for path in paths if Path(path).is_dir() for folder in folders_below(path)}
    return sorted(str(file) for folder in folders for file in folder.iterdir() if _is_film(file))


def _is_film(file: Path) -> bool:
    return file.suffix.lower() in VIDEOS and not file.name.startswith(".") and not file.is_dir()


def is_camera(path: str) -> bool:
    """Whether an argument is the number of a camera, and no file's name."""
    return path.isascii() and path.isdecimal() and len(path) <= 2 and not Path(path).exists()


@dataclass(frozen=True)
class Stream:
    """A film or a camera."""

    name: str
    is_live: bool
    limits: ImageLimits
    every: int
    stated: int
    """Frames that the film's header states; 0 if it states none."""
    rate: float
    """Frames per second that are taken; 0 if unknown."""

    @classmethod
    def of(cls, name: str, limits: ImageLimits, every: int) -> Stream:
        """The film or camera with this name; each `every`-th frame is taken."""
        if is_camera(name):
            return cls(name, True, limits, every, 0, 0.0)
        return cls(name, False, limits, every, stated_frames(Path(name)), stated_rate(Path(name)) / every)

    @property
    def total(self) -> int:
        """Frames that are taken, 0 if unknown."""
        return -(-self.stated // self.every)

    def frames(self) -> Iterator[VideoFrame]:
        """The frames that are taken. A film that breaks off is told on standard error.

        Raises:
            DataError, OSError: it cannot be read.
            CommandError: the camera cannot be opened.
        """
        frames = read_camera(int(self.name)) if self.is_live else self._film()
        return islice(frames, 0, None, self.every)

    def _film(self) -> Iterator[VideoFrame]:
        number = 0
        for frame in read_video(Path(self.name), self.limits):
            number = frame.number
            yield frame
        if number < self.stated:
            complain(f"warning: {shown(self.name)}: breaks off after frame {number:,} of {self.stated:,}")
