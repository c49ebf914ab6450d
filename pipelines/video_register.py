"""Stage `register` of video/: models/, sequence/, reports/metrics.json and sequence.json -> MLflow's registry;
reports/registered.json and the model card, reports/model_card/README.md.

The sequence model is registered as PREFIX-SOURCE-sequence, with the frame model inside. The record belongs to one
MLflow store. Running the stage again registers nothing twice, but decides again whether the model is champion.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from nla.config.base import read_params, section
from nla.config.clips import ClipsConfig
from nla.config.register import RegisterConfig
from nla.console import say
from nla.data.images import DEFAULT
from nla.data.schema import read_info
from nla.errors import DataError, RegistryError, WeightsError
from nla.io import atomic_write, read_json_as, sha256, write_json
from nla.limits import ImageLimits
from nla.models.saved_model import WEIGHTS, read_card, require_same, weights_file
from nla.serving.logged import shipped_code
from nla.serving.model_card import README, Results, SplitReport
from nla.serving.registration import Registration, add_version, settled
from nla.serving.registry import CALIBRATION, CODE, FINGERPRINT, LIMITS, SHA256, Registry
from nla.tracking import MlflowTracker, configure
from nla.tracking.run_record import RunRecord
from nla.tracking.store import store_errors, store_lock
from nla.tracking.summary import tables
from nla.video.metrics import SEQUENCE, headlines
from nla.video.model_pair import FRAME_MODEL, SEQUENCE_MODEL, ModelPair
from nla.video.saved_model import RETRAIN
from nla.video.serving.logged import SCRIPT, log_sequence_model
from nla.video.serving.model_card import sequence_card
from nla.video.serving.promotion import FRAME_SHA256, judge_sequences
from nla.video.streaming import StreamPredictor
from nla.workflow.paths import project_root
from nla.workflow.stage import run_stage

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

PAIR = ModelPair(Path(FRAME_MODEL), Path(SEQUENCE_MODEL))
FRAMES = Path("data/frames.parquet")
METRICS, RUN, RECORD = Path("reports/metrics.json"), Path("sequence.json"), Path("reports/registered.json")
CARD = Path("reports/model_card", README)
HEADLINES = [f"{split}.{SEQUENCE}.{metric}" for split in ("test", "valid") for metric in ("macro_f1", "accuracy")]
"""Metrics shown as tags of a version."""


class SplitMetrics(BaseModel):
    """What `evaluate` measured on a split, as far as this stage reads it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    annotated: int
    methods: dict[str, dict[str, Any]]
    bayes_accuracy: float | None = None


class Metrics(BaseModel):
    """reports/metrics.json."""

    model_config = ConfigDict(frozen=True, extra="allow")

    sha256: str
    """Of the sequence model that was measured."""
    valid: SplitMetrics
    test: SplitMetrics


def main() -> None:
    """Registers the model, and prints whether it is champion, and why."""
    params = read_params()
    config, limits = section(RegisterConfig, params), section(ClipsConfig, params).image_limits
    metrics, run = read_json_as(METRICS, Metrics), read_json_as(RUN, RunRecord)
    write_card(CARD, PAIR, metrics, run)
    record = register(PAIR, metrics, run, FRAMES, config, configure(project_root()), limits, CARD)
    write_json(RECORD, asdict(record))
    say(record.reason)


def sequence_results(metrics: Metrics) -> Results:
    """The results of the sequence model, as a model card shows them."""

    def split(found: SplitMetrics) -> SplitReport:
        known = {"rows": found.annotated, "bayes_accuracy": found.bayes_accuracy}
        return SplitReport.model_validate({**known, **found.methods[SEQUENCE]})

    return Results(sha256=metrics.sha256, test=split(metrics.test), valid=split(metrics.valid))


def write_card(path: Path, pair: ModelPair, metrics: Metrics, run: RunRecord) -> None:
    """Writes the card of the model for readers, from the records."""
    StreamPredictor.load(*pair)  # refuses what does not belong together
    # As it is written: its calibration has facts about the fit that prediction does not need.
    card = read_json_as(weights_file(pair.sequence_model).with_suffix(".json"), dict[str, Any], RETRAIN, WeightsError)
    frame_card = read_card(pair.frame_model / WEIGHTS)
    results = sequence_results(metrics) if metrics.sha256 == card["sha256"] else None
    known = run if run.fingerprint == card["fingerprint"] else None
    with atomic_write(path) as part:
        part.write_text(sequence_card(card, frame_card, results, known), encoding="utf-8")


def register(
    pair: ModelPair,
    metrics: Metrics,
    run: RunRecord,
    frames: Path,
    config: RegisterConfig,
    uri: str,
    limits: ImageLimits = DEFAULT,
    readme: Path | None = None,
) -> Registration:
    """Registers the models of `pair` as one in the store `uri`, and decides whether it becomes champion.

    The same weights are registered once for each calibration, each state of the code that serves them, and the `limits`
    of images that they take; the decision is made again each time. If the store lacks the run, as after a fresh clone,
    it is created again from sequence.json.

    Raises:
        TrackingError: the store cannot be used; RegistryError for a call of the model registry.
        DataError: the model does not belong to the table of frames, or the metrics are those of another one.
    """
    candidate, info = StreamPredictor.load(*pair), read_info(frames)
    require_same((candidate.card.source, candidate.classes), (info.source, info.classes), frames)
    if metrics.sha256 != candidate.card.sha256:
        raise DataError(f"{METRICS}: measured with another sequence model. Run `dvc repro` in video/.")
    with store_errors(uri, RegistryError), store_lock(uri):
        registry = Registry(uri, f"{config.prefix}-{candidate.card.source}-{SEQUENCE}")
        version = ensure_version(registry, pair, candidate, metrics, run, uri, limits, readme)
        return settled(
            registry,
            version,
            run,
            lambda champion: judge_sequences(candidate, version, champion, frames, config),
            "\n".join(tables(sequence_results(metrics).model_dump(exclude_none=True))),
        )


def ensure_version(
    registry: Registry,
    pair: ModelPair,
    candidate: StreamPredictor,
    metrics: Metrics,
    run: RunRecord,
    uri: str,
    limits: ImageLimits,
    readme: Path | None = None,
) -> ModelVersion:
    """The version of `candidate`, loaded from `pair`, in this store; created if missing."""
    identity = {
        FINGERPRINT: run.fingerprint,
        SHA256: sha256(pair.sequence_model / WEIGHTS),
        FRAME_SHA256: sha256(pair.frame_model / WEIGHTS),
        CODE: shipped_code(SCRIPT),
        LIMITS: json.dumps(asdict(limits)),
        CALIBRATION: json.dumps(asdict(candidate.card.calibration)),
    }
    if version := registry.find(identity):
        return version
    numbers = headlines(metrics.model_dump(exclude_none=True))
    tracker = MlflowTracker(uri, system_metrics=False)
    run_id = tracker.reopen(run)
    with tracker.closing():
        tracker.log_metrics(numbers, candidate.card.epoch)
    model = log_sequence_model(run_id, pair, limits, readme)
    tags = {key: f"{numbers[key]:.4f}" for key in HEADLINES}
    return add_version(registry, model, run_id, {**tags, **identity}, readme)


if __name__ == "__main__":
    run_stage(main)
