"""run.json: what the `train` stage records of a run for the stages behind it, and for other MLflow stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from nla.config.loss import LossConfig


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
    """One row per epoch: `epoch` from 1, losses, validation metrics, learning rate, seconds."""

    @classmethod
    def of_training(
        cls,
        mlflow_run_id: str | None,
        fingerprint: str,
        name: str,
        params: Mapping[str, Any],
        facts: Mapping[str, Any],
        history: Sequence[Mapping[str, int | float | None]],
    ) -> RunRecord:
        """The record of a training whose `facts` hold the tags of the process that trained it."""
        return cls(
            mlflow_run_id=mlflow_run_id,
            fingerprint=fingerprint,
            name=name,
            params=dict(params),
            tags=facts["tags"],
            facts=without_tags(facts),
            history=history,
        )

    @field_validator("history")
    @classmethod
    def _rows_have_an_epoch(cls, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        for number, row in enumerate(rows):
            epoch = row.get("epoch")
            if not isinstance(epoch, int) or not 1 <= epoch < 2**31:
                raise ValueError(f"row {number} must have an epoch, counted from 1")
        return rows


def without_tags(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that are not already tags of the MLflow run."""
    return {name: fact for name, fact in facts.items() if name != "tags"}


class MeasuredParams(BaseModel):
    """The parameters of a run, as far as `evaluate` reads them."""

    model_config = ConfigDict(frozen=True, extra="allow")

    loss: LossConfig


class MeasuredRun(RunRecord):
    """A run whose section `loss` draws the figure of the weights."""

    params: MeasuredParams  # type: ignore[assignment]  # narrower
