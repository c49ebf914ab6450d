"""Memory-mapped file of decoded images, for sets larger than memory; the system pages it in and out.

The order of training, and so every bit of its result, is the same as with images in memory. All processes of a node
share the cached pages.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from nla.errors import DataError
from nla.files.whole import whole

Fill = Callable[[np.ndarray], None]


class MappedImages(np.memmap):
    """[N, H, W, C] uint8. It pickles as its path and shape; slices and copies pickle with their content."""

    _mmap: Any
    """NumPy's attribute; None in a copy."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        path = Path(str(self.filename))
        if self._mmap is not None and self.flags.c_contiguous and self.nbytes == path.stat().st_size:
            return open_images, (path, self.shape)
        return np.asarray(self).__reduce_ex__(protocol)


def open_images(path: Path, shape: tuple[int, ...]) -> MappedImages:
    """Opens the images of a file. Raises DataError if this node does not see it."""
    try:
        return MappedImages(path, np.uint8, "r", shape=shape)
    except FileNotFoundError:
        raise DataError(
            f"the decoded images lie in {path}, which this node does not see: keep the project on storage that all "
            "nodes see, or raise ray.images_in_memory"
        ) from None


def mapped(path: Path, shape: tuple[int, ...], fill: Fill) -> MappedImages:
    """The images at `path`; if the file does not exist, `fill` first writes it, atomically.

    If several processes ask for it at once, one writes it and the others wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            with whole(path) as part:
                images_NHWC = MappedImages(part, np.uint8, "w+", shape=shape)
                fill(images_NHWC)
                images_NHWC.flush()
    return open_images(path, shape)
