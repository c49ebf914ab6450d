"""Tables that `evaluate` writes: the predictions for each image as Parquet, and the data of DVC's plots as CSV.

Legend: N samples, C classes; p_NC probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nla.evaluation.calibration import Reliability
from nla.evaluation.uncertainty import label_probability, most_doubted
from nla.io import write_rows


def predictions(split: Path, p_NC: np.ndarray, classes: Sequence[str]) -> pa.Table:
    """row, path, label, predicted and p_CLASS of each class, in the order of the table `split`.

    The label is clean, and p_NC are those before calibration.
    """
    images, _ = _read_split(split, classes, "clean_label")
    return with_predictions(images.select(["row", "path", "label"]), p_NC, classes)


def with_predictions(images: pa.Table, p_NC: np.ndarray, classes: Sequence[str]) -> pa.Table:
    """`images`, a table of N rows, with the columns predicted and p_CLASS added."""
    table = images.append_column("predicted", _names(p_NC.argmax(1), classes))
    for name, p_N in zip(classes, p_NC.T, strict=True):
        table = table.append_column(f"p_{name}", pa.array(p_N, pa.float32()))
    return table


def suspects(split: Path, p_NC: np.ndarray, classes: Sequence[str]) -> pa.Table:
    """Possible label issues: row, path, label, likely, p_label and p_likely, the least probable label first.

    Ties keep the order of `split`. `likely` is the most probable class, which can be the label. `is_flipped` is
    included if the split has known label noise. The label's probability identifies wrong labels better than NAW's
    weight does (docs/results.md).
    """
    table, label_N = _read_split(split, classes, "label")
    table = table.append_column("likely", _names(p_NC.argmax(1), classes))
    table = table.append_column("p_label", pa.array(label_probability(p_NC, label_N)))
    table = table.append_column("p_likely", pa.array(p_NC.max(axis=1)))
    columns = ["row", "path", "label", "likely", "p_label", "p_likely"]
    flipped = ["is_flipped"] if pc.any(table["is_flipped"]).as_py() else []
    return table.select([*columns, *flipped]).take(pa.array(most_doubted(p_NC, label_N)))


def _read_split(split: Path, classes: Sequence[str], label: str) -> tuple[pa.Table, np.ndarray]:
    """The columns row, label (by name, from the column `label`), is_flipped and path; and label_N."""
    table = pq.read_table(split, columns=["row", label, "is_flipped", "image.path"]).flatten()
    table = table.rename_columns(["row", "label", "is_flipped", "path"])
    label_N = table["label"].to_numpy()
    return table.set_column(table.column_names.index("label"), "label", _names(label_N, classes)), label_N


def _names(index_N: np.ndarray, classes: Sequence[str]) -> pa.Array:
    return pa.array(np.asarray(classes, object)[index_N], pa.string())


def write_confusion(path: Path, label_N: np.ndarray, predicted_N: np.ndarray, classes: Sequence[str]) -> None:
    """Writes one row per sample: actual, predicted; for DVC's templates `confusion` and `confusion_normalized`."""
    pairs = zip(label_N.tolist(), predicted_N.tolist(), strict=True)
    write_rows(path, ({"actual": classes[label], "predicted": classes[predicted]} for label, predicted in pairs))


def write_reliability(path: Path, bins: Reliability) -> None:
    """Writes one row per bin that holds samples: confidence, accuracy, count."""
    rows = zip(bins.confidence.tolist(), bins.accuracy.tolist(), bins.count.tolist(), strict=True)
    write_rows(path, (dict(zip(("confidence", "accuracy", "count"), row, strict=True)) for row in rows if row[2]))
