"""dlib's detector of frontal faces: histograms of oriented gradients and a linear classifier, compiled into dlib.

Dalal, Triggs: Histograms of Oriented Gradients for Human Detection. CVPR 2005. King: Max-Margin Object Detection. 2015.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from nla.data.images import Pixels
from nla.errors import CommandError
from nla.faces.detector import Face, best_first, shrunk

MISSING = "the detector dlib is not installed. Run `pip install -e .[faces]`."
LONGEST_SIDE = 1024
"""To which larger photos are shrunk: at 640 it misses more of the faces of benchmarks/faces.py, at 1,600 not fewer."""
ENLARGED = 1
"""Times that the image is doubled: its window has 80 pixels, so that faces of 40 pixels are found."""
LEAST_SCORE = 0.0
"""dlib's own threshold."""


_TURN = threading.Lock()


def is_installed() -> bool:
    """Whether dlib can be imported; it is not imported."""
    return importlib.util.find_spec("dlib") is not None


class DlibHog:
    """dlib's detector of frontal faces. It gives no points."""

    name = "dlib"

    def __init__(self, longest_side: int = LONGEST_SIDE) -> None:
        """Raises CommandError if dlib is not installed."""
        self._longest_side = longest_side
        try:
            self._run = _loaded(importlib.import_module("dlib"))
        except ImportError as error:
            problem = f" ({error})" if is_installed() else ""
            raise CommandError(MISSING.replace(".", f"{problem}.", 1)) from None

    def detect(self, image_HWC: Pixels) -> list[Face]:
        """As `Detector.detect`."""
        image, factor = shrunk(image_HWC, self._longest_side)
        with _TURN:  # it keeps its pyramid of images
            boxes, scores, _ = self._run(np.ascontiguousarray(image), ENLARGED, LEAST_SCORE)
        faces = [
            Face(float(box.left()), float(box.top()), float(box.width()), float(box.height()), float(score))
            for box, score in zip(boxes, scores, strict=True)
        ]
        return best_first(faces, factor)


@functools.cache
def _loaded(dlib: ModuleType) -> Callable[..., Any]:
    """The detector: one for all, as it takes a second to load, and holds nothing of an image between two."""
    found: Callable[..., Any] = dlib.get_frontal_face_detector().run
    return found
