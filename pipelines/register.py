"""Stage `register`: models/, reports/metrics.json and run.json -> MLflow's registry; reports/registered.json and the
model card, reports/model_card/README.md.

The record belongs to one MLflow store. Running the stage again registers nothing twice, but decides again whether the
model is champion.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from nla.config.base import flatten, read_params, section
from nla.config.data import DataConfig
from nla.config.register import RegisterConfig
from nla.console import say
from nla.data.images import DEFAULT
from nla.data.schema import read_info
from nla.errors import RegistryError
from nla.io import atomic_write, read_json_as, sha256, write_json
from nla.limits import ImageLimits
from nla.models.saved_model import read_card, require_same
from nla.serving.logged import log_served_model, shipped_code
from nla.serving.model_card import README, model_card, read_results, read_run
from nla.serving.predictor import WEIGHTS, Predictor
from nla.serving.promotion import judge
from nla.serving.registration import Registration, add_version, settled
from nla.serving.registry import CALIBRATION, CODE, FINGERPRINT, LIMITS, SHA256, VIEWS, Registry
from nla.tracking import MlflowTracker, configure
from nla.tracking.run_record import RunRecord
from nla.tracking.store import store_errors, store_lock
from nla.tracking.summary import note
from nla.workflow.paths import project_root
from nla.workflow.stage import run_stage

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

MODELS, VALID = Path("models"), Path("data/valid.parquet")
METRICS, RUN, RECORD = Path("reports/metrics.json"), Path("run.json"), Path("reports/registered.json")
CARD = Path("reports/model_card", README)
HEADLINES = [f"{split}.{metric}" for split in ("test", "valid") for metric in ("accuracy", "mean_accuracy")]
"""Metrics shown as tags of a version."""


class SplitMetrics(BaseModel):
    """The metrics of a split."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    accuracy: float | None = None
    mean_accuracy: float | None = None


class Metrics(BaseModel):
    """reports/metrics.json, as far as this stage reads it; further fields are logged as they are."""

    model_config = ConfigDict(frozen=True, extra="allow")

    test: SplitMetrics
    valid: SplitMetrics


def main() -> None:
    """Registers the model, and prints whether it is champion, and why."""
    params = read_params()
    config, limits = section(RegisterConfig, params), section(DataConfig, params).image_limits
    metrics, run = read_metrics(METRICS), read_json_as(RUN, RunRecord)
    write_model_card(CARD, MODELS, METRICS, RUN)
    record = register(MODELS, metrics, run, VALID, config, configure(project_root()), limits, CARD)
    write_json(RECORD, asdict(record))
    say(record.reason)


def read_metrics(path: Path) -> Metrics:
    """Reads the metrics that `evaluate` wrote. Raises DataError if a field that is read here is wrong."""
    return read_json_as(path, Metrics)


def write_model_card(path: Path, models: Path, metrics: Path, run: Path) -> None:
    """Writes the card of the model for readers, from the records."""
    card = read_card(models / WEIGHTS)
    with atomic_write(path) as part:
        part.write_text(model_card(card, read_results(metrics, card), read_run(run, card)), encoding="utf-8")


def register(
    models: Path,
    metrics: Metrics,
    run: RunRecord,
    valid: Path,
    config: RegisterConfig,
    uri: str,
    limits: ImageLimits = DEFAULT,
    readme: Path | None = None,
) -> Registration:
    """Registers the model of `models` in the store `uri`, and decides whether it becomes champion.

    The same weights of the same fingerprint are registered once for each calibration, each state of the code that
    serves them, and the `limits` of images that they take; the decision is made again each time. If the store lacks the
    run, as after a fresh clone, it is created again from run.json.

    Raises:
        TrackingError: the store cannot be used; RegistryError for a call of the model registry.
        DataError: the model does not belong to `valid`.
    """
    candidate, info = Predictor.load(models), read_info(valid)
    require_same((candidate.source, candidate.classes), (info.source, info.classes), valid)
    with store_errors(uri, RegistryError), store_lock(uri):
        registry = Registry(uri, f"{config.prefix}-{candidate.source}")
        version = ensure_version(registry, models, candidate, metrics, run, uri, limits, readme)
        return settled(
            registry,
            version,
            run,
            lambda champion: judge(candidate, version, champion, valid, config),
            note(metrics.model_dump(exclude_unset=True)),
        )


def ensure_version(
    registry: Registry,
    models: Path,
    candidate: Predictor,
    metrics: Metrics,
    run: RunRecord,
    uri: str,
    limits: ImageLimits,
    readme: Path | None = None,
) -> ModelVersion:
    """The version of `candidate`, loaded from `models`, in this store; created if missing."""
    identity = {
        FINGERPRINT: run.fingerprint,
        SHA256: sha256(models / WEIGHTS),
        VIEWS: json.dumps(asdict(candidate.views)),
        CODE: shipped_code(),
        LIMITS: json.dumps(asdict(limits)),
        CALIBRATION: json.dumps(asdict(candidate.calibration)),
    }
    if version := registry.find(identity):
        return version
    run_id = ensure_run(models, metrics, run, uri)
    model = log_served_model(run_id, models, limits, readme)
    numbers = flatten(metrics.model_dump())
    tags = {key: f"{numbers[key]:.4f}" for key in HEADLINES if numbers.get(key) is not None}
    return add_version(registry, model, run_id, {**tags, **identity}, readme)


def ensure_run(models: Path, metrics: Metrics, run: RunRecord, uri: str) -> str:
    """Id of the model's run in this store, created if missing, with its final metrics."""
    tracker = MlflowTracker(uri, system_metrics=False)
    run_id = tracker.reopen(run)
    with tracker.closing():
        tracker.log_result(metrics.model_dump(exclude_unset=True), read_card(models / WEIGHTS)["epoch"])
    return run_id


if __name__ == "__main__":
    run_stage(main)
