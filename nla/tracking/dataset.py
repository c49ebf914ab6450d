"""A Parquet table of samples as an MLflow dataset: hash, rows and class counts, without reading images."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.data.dataset import Dataset
from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]  # made at import
from mlflow.types import ColSpec, DataType, Schema
from mlflow.utils.validation import MAX_DATASET_DIGEST_SIZE

from nla.data.schema import TableInfo, read_samples, targets
from nla.io import sha256
from nla.workflow.paths import workspace


class TableDataset(Dataset):
    """Dataset named SOURCE-STEM, such as synthetic-train; its source is the path relative to the workspace.

    Its profile has the rows of each class and, where distributions are learnt instead of labels, their sums.
    """

    def __init__(self, path: Path, info: TableInfo) -> None:
        self._sha256 = sha256(path)
        _, table = read_samples(path, ["label", "target"])
        labels = table["label"].to_pylist()
        counts = Counter(info.classes[label] for label in labels)
        self._profile: dict[str, Any] = {
            "num_rows": len(labels),
            "counts": dict(counts.most_common()),
            "sha256": self._sha256,
        }
        if (target_NC := targets(table, info)) is not None:
            sums = zip(info.classes, target_NC.sum(axis=0, dtype=np.float64).round(2).tolist(), strict=True)
            self._profile["target_sums"] = dict(sums)
        full = path.resolve()
        shown = full.relative_to(workspace()) if full.is_relative_to(workspace()) else full
        super().__init__(LocalArtifactDatasetSource(str(shown)), f"{info.source}-{path.stem}")

    def _compute_digest(self) -> str:
        return self._sha256[:MAX_DATASET_DIGEST_SIZE]

    @property
    def profile(self) -> dict[str, Any]:
        return self._profile

    @property
    def schema(self) -> Schema:
        return Schema([ColSpec(DataType.binary, "image"), ColSpec(DataType.long, "label")])

    def to_dict(self) -> dict[str, str]:
        schema = json.dumps({"mlflow_colspec": self.schema.to_dict()})
        return {**super().to_dict(), "profile": json.dumps(self._profile), "schema": schema}
