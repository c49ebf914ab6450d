"""Training targets from the audit: ambiguous faces are learnt as the distribution that it suggests, not thrown away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from nla.audit.table import probabilities, read_labels
from nla.data.samples import Samples
from nla.errors import ConfigError, DataError


def softened_samples(train: Samples, labels: Path, sha256: str) -> tuple[Samples, int]:
    """The samples with suggested distributions as targets of ambiguous rows, and the number of these rows.

    The other rows keep their label or distribution.

    Args:
        train: training samples.
        labels: table of the audit.
        sha256: hash of the table of the training samples.

    Raises:
        ConfigError: nothing was audited.
        DataError: the table of the audit is missing or damaged, or is that of other samples.
    """
    info, table = read_labels(labels)
    if not info.folds:
        raise ConfigError("train.soften: needs an audit (got audit.folds 0). Set audit.folds to 5, or soften to false.")
    if info.data.get("train") != sha256:
        raise DataError(f"{labels}: is the audit of another training table. Run `dvc repro audit`.")
    rows = table.filter(pc.equal(table["split"], "train"))
    is_ambiguous_N = np.array(rows["verdict"].to_pylist(), object) == "ambiguous"
    target_NC = (
        np.eye(len(train.classes), dtype=np.float32)[train.label_N] if train.target_NC is None else train.target_NC
    )
    suggested_NC = probabilities(rows, info.classes, "q")
    target_NC = np.where(is_ambiguous_N[:, None], suggested_NC, target_NC).astype(np.float32)
    return replace(train, target_NC=target_NC), int(is_ambiguous_N.sum())
