"""YuNet, a small convolutional network, by OpenCV's FaceDetectorYN. Its weights are a file that the user installs.

Wu, Peng, Yu: YuNet: A Tiny Millisecond-level Face Detector. Machine Intelligence Research 20 (2023).
"""

from __future__ import annotations

import threading

import cv2
import numpy as np

from nla.data.images import Pixels
from nla.faces.detector import Face, best_first, shrunk
from nla.faces.detector_file import read_weights

LONGEST_SIDE = 640
"""To which larger photos are shrunk: the side in the file's name at its author's, yunet_s_640_640.onnx. At larger ones
it finds no more of the faces of benchmarks/faces.py, and misses some that fill a photo."""
LEAST_SCORE = 0.8
"""Faces with a lower score are left out; benchmarks/faces.py has what that finds and what it takes for a face."""
OVERLAP, CANDIDATES = 0.3, 5000
"""Of OpenCV's interface: intersection over union above which two boxes are one face, and boxes before that."""
POINTS = slice(4, 14)
"""In a row of the result: x, y, width, height, five points, score."""


class YuNet:
    """YuNet of March 2023. It gives five points."""

    name = "yunet"

    def __init__(self, longest_side: int = LONGEST_SIDE) -> None:
        """Raises WeightsError if its file is missing or is another one."""
        self._longest_side, self._turn = longest_side, threading.Lock()
        content = np.frombuffer(read_weights(), np.uint8)
        nothing = np.empty(0, np.uint8)
        self._network = cv2.FaceDetectorYN.create(
            "onnx", content, nothing, (320, 320), LEAST_SCORE, OVERLAP, CANDIDATES
        )

    def detect(self, image_HWC: Pixels) -> list[Face]:
        """As `Detector.detect`."""
        image, factor = shrunk(image_HWC, self._longest_side)
        code = cv2.COLOR_GRAY2BGR if image.ndim == 2 else cv2.COLOR_RGB2BGR
        image = cv2.cvtColor(image, code)
        with self._turn:  # the size is a state of the network
            self._network.setInputSize((image.shape[1], image.shape[0]))
            _, rows = self._network.detect(image)
        return best_first([] if rows is None else [_face(row) for row in rows], factor)


def _face(row: np.ndarray) -> Face:
    left, top, width, height = map(float, row[:4])
    return Face(left, top, width, height, float(row[14]), row[POINTS].reshape(5, 2).astype(np.float32))
