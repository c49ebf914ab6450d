"""Which detectors are here, and which one is used."""

from __future__ import annotations

from typing import NamedTuple

from nla.errors import CommandError, WeightsError, user_message
from nla.faces import dlib_hog
from nla.faces.detector import Detector
from nla.faces.detector_file import REMEDY, read_weights, weights_path
from nla.faces.dlib_hog import DlibHog
from nla.faces.yunet import YuNet

NAMES = ("auto", "yunet", "dlib")
"""What a user can choose."""


class Available(NamedTuple):
    """A detector, and whether it can be used here."""

    name: str
    is_ready: bool
    text: str
    remedy: str
    """The next action; empty if it is ready."""
    is_damaged: bool = False
    """Whether it is there, but cannot be used."""


def available() -> list[Available]:
    """All detectors, the best first."""
    return [_yunet(), _dlib()]


def open_detector(name: str = "auto", longest_side: int | None = None) -> Detector:
    """Loads a detector.

    Args:
        name: `yunet`, `dlib`, or `auto`: YuNet if its file is there, else dlib.
        longest_side: in pixels, to which larger photos are shrunk before detection; None for the detector's own.

    Raises:
        CommandError: there is no such detector, or none is ready; or dlib is not installed.
        WeightsError: YuNet's file is missing or is another one.
    """
    if name == "auto":
        name = _automatic()
    if name not in NAMES:
        raise CommandError(f"no detector has this name (got {name!r}). Use {', '.join(NAMES)}.")
    kind = YuNet if name == YuNet.name else DlibHog
    return kind() if longest_side is None else kind(longest_side)


def _automatic() -> str:
    if weights_path().exists():
        return YuNet.name
    if dlib_hog.is_installed():
        return DlibHog.name
    raise CommandError(
        "no detector of faces is here. Run `nla detector get`, which installs the weights of yunet, or `pip install -e "
        ".[faces]`, which installs dlib. If the images are crops of faces already, add --cropped."
    )


def _yunet() -> Available:
    path = weights_path()
    try:
        read_weights()
    except (WeightsError, OSError) as error:
        if not path.exists():
            return Available(YuNet.name, False, f"its weights are not at {path}", REMEDY)
        return Available(YuNet.name, False, f"its weights cannot be used: {user_message(error)}", REMEDY, True)
    return Available(YuNet.name, True, f"by OpenCV, with {path}", "")


def _dlib() -> Available:
    if dlib_hog.is_installed():
        return Available(DlibHog.name, True, "histograms of gradients, frontal faces", "")
    return Available(DlibHog.name, False, "not installed", "Run `pip install -e .[faces]`.")
