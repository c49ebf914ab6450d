"""run.json: what the `train` stage records of a run for the stages behind it, and for other MLflow stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict


class RunRecord(BaseModel):
    """A finished training run."""

    model_config = ConfigDict(frozen=True)

    mlflow_run_id: str | None
    """In the store that it was logged to."""
    fingerprint: str
    name: str
    """Name of the MLflow run."""
    params: dict[str, Any]
    """Nested parameters."""
    tags: dict[str, str]
    """Tags of the MLflow run: commit, data, DVC experiment."""
    facts: dict[str, Any]
    """What was determined during training, such as precision and workers."""
    history: Sequence[Mapping[str, int | float | None]]
    """One row per epoch: losses, validation metrics, learning rate, seconds."""
