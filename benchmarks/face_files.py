"""Writes a tree of JPEG faces laid out like real sets: root/{train,test}/CLASS/*.jpg, 100 px RGB."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np

from nla.config.data import DataConfig, SyntheticConfig
from nla.data.images import decode
from nla.data.sources.base import Findings
from nla.data.sources.synthetic import Synthetic

DRAWN = 2048
"""Number of distinct drawn faces; further ones are darker copies, because drawing is slow."""
SIDE = 100
"""Pixels per side, as in the aligned faces of RAF-DB."""
QUALITY = 90
TEST = 10
"""One in TEST faces is in the test split."""


def write_tree(root: Path, rows: int) -> None:
    """Writes files for `rows` faces, no two with the same pixels."""
    for i, (label, image) in zip(range(rows), _faces(), strict=False):
        # Each round is darker, so that files differ as real ones do.
        folder = root / ("test" if i % TEST == 0 else "train") / Synthetic.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        darker = cv2.convertScaleAbs(image, alpha=1 - 0.004 * (i // DRAWN))
        cv2.imwrite(str(folder / f"{i:06d}.jpg"), darker, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def _faces() -> Iterator[tuple[int, np.ndarray]]:
    config = DataConfig(synthetic=SyntheticConfig(train=DRAWN, valid=100, test=100))
    drawn: list[tuple[int, np.ndarray]] = []
    for batch in Synthetic(config, Path()).batches(Findings()):
        for label, image in zip(batch["label"].to_pylist(), batch["image"].to_pylist(), strict=True):
            grey = cv2.resize(decode(image["bytes"]), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            drawn.append((label, cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)))
        if len(drawn) >= DRAWN:
            break
    return cycle(drawn[:DRAWN])
