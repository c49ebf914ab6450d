"""FER2013's own labels in place of the annotators' majority: label noise as people make it, with a known reference.

Every face of FERPlus was labelled before, for FER2013. Where that label is not the majority of FERPlus' ten annotators,
it counts as flipped. Train and validation get these labels, as real data have no clean validation set; test keeps the
majority.

Legend: N faces, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nla.data.schema import SPLITS
from nla.errors import ConfigError

LABELLED_ANEW = ("train", "valid")
"""Splits whose labels become those of FER2013."""
MISSING = -1


def fer2013_labels(own_N: np.ndarray, clean_N: np.ndarray, split_N: np.ndarray, source: str) -> np.ndarray:
    """The labels given to training, [N]: FER2013's in LABELLED_ANEW, the clean ones elsewhere.

    Args:
        own_N: FER2013's labels, MISSING where the source has none.
        clean_N: the majority.
        split_N: index in SPLITS, or another number for faces that are left out.
        source: name of the source, for the message.

    Raises:
        ConfigError: a face has no label of FER2013.
    """
    replaced_N = np.isin(split_N, [SPLITS.index(split) for split in LABELLED_ANEW])
    if (own_N[replaced_N] == MISSING).any():
        raise ConfigError(
            f"data.label_rule: the source {source} has no labels of FER2013 (got fer2013). Choose majority, or "
            "data.source: ferplus."
        )
    return np.where(replaced_N, own_N, clean_N)


def disagreement(
    own_N: np.ndarray, clean_N: np.ndarray, split_N: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Rows of each split whose label in FER2013 is not the majority, in all and by the majority's class.

    For test too, where FER2013's labels are not used. JSON-serializable.
    """
    report: dict[str, dict[str, Any]] = {}
    for number, split in enumerate(SPLITS):
        inside_N = split_N == number
        wrong_N = inside_N & (own_N != clean_N)
        rows_C, wrong_C = (np.bincount(clean_N[mask_N], minlength=len(classes)) for mask_N in (inside_N, wrong_N))
        report[split] = {
            "rows": int(inside_N.sum()),
            "differ": int(wrong_N.sum()),
            "classes": {
                name: {"rows": rows, "differ": wrong}
                for name, rows, wrong in zip(classes, rows_C.tolist(), wrong_C.tolist(), strict=True)
            },
        }
    return report
