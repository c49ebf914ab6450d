"""YuNet's weights on this machine: where they lie, whether they are the right ones, and their installation."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from nla.errors import WeightsError
from nla.io import atomic_write, read_regular

FILE = "face_detection_yunet_2023mar.onnx"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
"""Of FILE in OpenCV's model zoo, and of `onnx/yunet_s_640_640.onnx` of github ShiqiYu/libfacedetection.train."""
URL = f"https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/{FILE}"
"""Where `nla detector get` downloads FILE: the model zoo keeps its files in Git LFS, behind this address."""
MOST_BYTES = 2_000_000
"""No more is read of a file or an address: FILE has 232,589 bytes."""
FOLDER = "NLA_DETECTORS"
"""Environment variable that names another folder than the user's own."""
REMEDY = "Run `nla detector get`."


def weights_path() -> Path:
    """Where the weights lie: in $NLA_DETECTORS, or else in nla/detectors below $XDG_DATA_HOME or ~/.local/share."""
    if own := os.environ.get(FOLDER):
        return Path(own).expanduser() / FILE
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(data) / "nla/detectors" / FILE


def read_weights() -> bytes:
    """The content of the file. Raises WeightsError if it is missing or another one, OSError if it cannot be read."""
    path = weights_path()
    try:
        content = read_regular(path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: the weights of the detector yunet are missing. {REMEDY}") from None
    return checked(content, str(path), REMEDY)


def checked(content: bytes, source: str, remedy: str) -> bytes:
    """Returns `content`. Raises WeightsError, which names `source`, unless it has the pinned sha256."""
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise WeightsError(f"{source}: not {FILE} (its sha256 is {found[:12]}..., not {SHA256[:12]}...). {remedy}")
    return content


def install(content: bytes, source: str) -> Path:
    """Writes the weights where they are looked for, and returns that path. Raises WeightsError as `checked` does."""
    path = weights_path()
    content = checked(content, source, f"Get it from {URL}.")
    with atomic_write(path) as part:
        part.write_bytes(content)
    return path
