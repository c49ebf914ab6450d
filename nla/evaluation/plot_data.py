"""Writes the numbers behind the DVC plots as CSV; the same bytes on every system."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nla.evaluation.calibration import Reliability
from nla.files.records import write_rows


def write_confusion(path: Path, label_N: np.ndarray, predicted_N: np.ndarray, classes: Sequence[str]) -> None:
    """Writes one row per sample: actual, predicted; for DVC's templates `confusion` and `confusion_normalized`."""
    pairs = zip(label_N.tolist(), predicted_N.tolist(), strict=True)
    write_rows(path, ({"actual": classes[label], "predicted": classes[predicted]} for label, predicted in pairs))


def write_reliability(path: Path, bins: Reliability) -> None:
    """Writes one row per bin that holds samples: confidence, accuracy, count."""
    rows = zip(bins.confidence.tolist(), bins.accuracy.tolist(), bins.count.tolist(), strict=True)
    write_rows(path, (dict(zip(("confidence", "accuracy", "count"), row, strict=True)) for row in rows if row[2]))
