"""Model registry: one registered model per data set, and the alias `champion` for its best version.

A version becomes champion if there is none, or if it gets more of the current validation images right than the
champion, which is evaluated on them anew, each with its own views of an image: the paired 95 % interval of the
difference must lie above zero, and McNemar's exact p below ALPHA. That split can hold images that the champion was
trained on, which only favours the champion. A version with the champion's own weights and views, but changed code,
replaces it without a comparison, so that fixes of the serving code reach whoever loads the champion.

Refused whatever the numbers: other classes, another source, and a champion that takes larger images than the current
ones, or colour where they are grey: they lack what it was trained to see, so its score would be meaningless. For a
champion that takes smaller or grey images they are fitted, as any served image is.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from nla.config.base import flatten
from nla.config.register import RegisterConfig
from nla.data.schema import read_info
from nla.errors import NLAError
from nla.evaluation.predict import Views
from nla.evaluation.significance import mcnemar, paired_difference
from nla.io import sha256
from nla.models.card import read_card, require_same
from nla.serving.logged import log_served_model, shipped_code
from nla.serving.predictor import WEIGHTS, Predictor
from nla.telemetry import disable_telemetry
from nla.tracking.store import REFUSALS, STANDS_FOR, alone, find_run, refusals, store_id
from nla.tracking.tracker import MlflowTracker

disable_telemetry()  # MLflow starts its telemetry on import

from mlflow import MlflowClient, set_tracking_uri  # noqa: E402
from mlflow.artifacts import download_artifacts  # noqa: E402
from mlflow.entities.model_registry import ModelVersion  # noqa: E402

CHAMPION = "champion"
ALPHA = 0.05
FINGERPRINT, SHA256, VIEWS, CODE = "nla.fingerprint", "nla.weights_sha256", "nla.views", "nla.served_code"
"""Tags of a version that identify the model and the code that serves it."""
HEADLINES = [f"{split}.{metric}" for split in ("test", "valid") for metric in ("accuracy", "mean_accuracy")]
"""Metrics shown as tags of a version; all metrics are in its run and its logged model."""
ROWS = 1024  # rows read at a time


@dataclass(frozen=True)
class Verdict:
    """Decision on the new version, and its reason."""

    decision: str
    """champion: it has the alias now; kept: the old champion stays; refused: the two cannot be compared."""
    reason: str
    difference: float | None = None
    """Difference in accuracy on the current validation images, new - champion, in [-1, 1]; None if not compared."""
    low: float | None = None
    high: float | None = None


def register(
    models: Path,
    metrics: Mapping[str, Any],
    run: Mapping[str, Any],
    valid: Path,
    config: RegisterConfig,
    tracking_uri: str,
) -> dict[str, Any]:
    """Registers the model of `models` in the store that `configure` returned, and decides whether it becomes champion.

    The same weights of the same fingerprint are registered once for each state of the code that serves them; the
    decision is made anew each time.

    Args:
        models: folder with model.safetensors and model.json.
        metrics: contents of reports/metrics.json, nested: test.accuracy and so on. Its `views` are those that were
            measured, and that the model is served with; without any, the image and its mirror.
        run: contents of run.json; `mlflow_run_id`, `name`, `fingerprint`, `params`, `facts` and `tags` are read. A run
            missing from this store, as after a fresh clone, is recreated from them.
        valid: path of valid.parquet.
        config: settings of the comparison, and the prefix of the model's name.
        tracking_uri: URI of the store.

    Returns:
        The JSON-able record; its `reason` is a sentence for the user.

    Raises:
        RegistryError: the store refuses.
        DataError: the model does not belong to `valid`.
    """
    set_tracking_uri(tracking_uri)
    client = MlflowClient(tracking_uri)
    candidate = Predictor.load(models, Views(**metrics.get("views", {})))
    info = read_info(valid)
    require_same((candidate.source, candidate.classes), (info.source, info.classes), valid)
    name = f"{config.prefix}-{candidate.source}"
    with refusals(tracking_uri), alone(tracking_uri):
        version = _version(client, name, candidate.views, models, metrics, run, tracking_uri)
        before = _champion(client, name)
        verdict = _judge(client, candidate, version, before, valid, config)
        if verdict.decision == CHAMPION:
            client.set_registered_model_alias(name, CHAMPION, version.version)
        reason = verdict.reason + _note(client, version, run)
        client.update_model_version(name, version.version, reason)
        return {
            "name": name,
            "version": int(version.version),
            "run_id": version.run_id,
            "champion_before": None if before is None else int(before.version),
            "store": store_id(client),
            **asdict(verdict),
            "reason": reason,
        }


def _version(
    client: MlflowClient,
    name: str,
    views: Views,
    models: Path,
    metrics: Mapping[str, Any],
    run: Mapping[str, Any],
    uri: str,
) -> ModelVersion:
    """The model's version in this store, created if missing."""
    identity = {
        FINGERPRINT: run["fingerprint"],
        SHA256: sha256(models / WEIGHTS),
        VIEWS: json.dumps(asdict(views)),
        CODE: shipped_code(),
    }
    for known in client.search_model_versions(f"name = '{name}'"):
        if identity.items() <= known.tags.items():
            return known
    run_id = _run(models, metrics, run, uri)
    logged = log_served_model(run_id, models, views)
    numbers = flatten(metrics)
    tags = {key: f"{numbers[key]:.4f}" for key in HEADLINES if key in numbers}
    commit = client.get_run(run_id).data.tags.get("mlflow.source.git.commit", "unknown")
    tags |= identity | {"nla.git_commit": commit}
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    return client.create_model_version(name, logged.model_uri, run_id, tags, model_id=logged.model_id)


def _run(models: Path, metrics: Mapping[str, Any], run: Mapping[str, Any], uri: str) -> str:
    """Id of the model's run in this store, created if missing, with all final metrics."""
    tracker = MlflowTracker(uri, system_metrics=False)
    run_id = tracker.reopen(run)
    with tracker.closing():
        tracker.log_metrics(metrics, read_card(models / WEIGHTS)["epoch"])
    return run_id


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    number = client.get_registered_model(name).aliases.get(CHAMPION)
    return None if number is None else client.get_model_version(name, str(number))


def _judge(
    client: MlflowClient,
    candidate: Predictor,
    version: ModelVersion,
    before: ModelVersion | None,
    valid: Path,
    config: RegisterConfig,
) -> Verdict:
    new = f"{version.name} version {version.version}"
    if before is None:
        return Verdict(CHAMPION, f"{new} is champion: there was none")
    old = f"version {before.version}"
    if before.version == version.version:
        return Verdict(CHAMPION, f"{new} is champion already")
    if all(before.tags.get(tag) == version.tags[tag] for tag in (FINGERPRINT, SHA256, VIEWS)):
        return Verdict(CHAMPION, f"{new} is champion now: the model of {old}, served by the present code")
    try:
        champion = _load(before)
    except (*REFUSALS, NLAError, OSError) as error:
        return Verdict(
            "refused", f"{new} is not compared: the champion, {old}, cannot be loaded ({error}). {_by_hand(version)}"
        )
    if obstacle := _obstacle(candidate, champion):
        return Verdict("refused", f"{new} is not compared: the champion, {old}, {obstacle}. {_by_hand(version)}")
    right_N, champion_right_N = _right(candidate, valid), _right(champion, valid)
    difference, low, high = paired_difference(right_N, champion_right_N, config.bootstrap, config.seed)
    numbers = (
        f"{new} is right on {right_N.mean():.2%} of the {len(right_N):,} validation images and the champion, {old}, on "
        f"{champion_right_N.mean():.2%}: a difference of {100 * difference:+.2f} points, 95 % interval "
        f"{100 * low:+.2f} to {100 * high:+.2f}"
    )
    # With few discordant images the bootstrap is too optimistic; the exact test is not.
    p = mcnemar(int((right_N & ~champion_right_N).sum()), int((champion_right_N & ~right_N).sum()))
    numbers += f" (McNemar's exact p {p:.3f})"
    if low > 0 and p < ALPHA:
        return Verdict(CHAMPION, f"{numbers}; it is champion now", difference, low, high)
    return Verdict("kept", f"{numbers}, not enough; {old} stays champion", difference, low, high)


def _note(client: MlflowClient, version: ModelVersion, run: Mapping[str, Any]) -> str:
    """A note for the case that the version's run had to be recreated."""
    of_version = find_run(client, version.run_id)
    if of_version is None or of_version.data.tags.get(STANDS_FOR) != run["mlflow_run_id"]:
        return ""
    return f". This store lacks the run {run['mlflow_run_id']}: {version.run_id} repeats its params and final metrics"


def _load(version: ModelVersion) -> Predictor:
    """The version's weights under the current code; nothing stored with it is executed."""
    with tempfile.TemporaryDirectory() as folder:
        artifacts = f"models:/{version.name}/{version.version}/artifacts"
        return Predictor.load(Path(download_artifacts(artifacts, dst_path=folder)))


def _obstacle(candidate: Predictor, champion: Predictor) -> str | None:
    """Why the two cannot be compared on the candidate's images; None if they can."""
    if champion.source != candidate.source:
        return f"was trained on {champion.source}"
    if champion.classes != candidate.classes:
        return f"knows the classes {', '.join(champion.classes)}, not {', '.join(candidate.classes)}"
    present, wanted = candidate.model.image, champion.model.image
    if wanted.size > present.size or wanted.channels > present.channels:
        return f"takes {wanted.color} images of {wanted.size} pixels, the data hold {present.color} of {present.size}"
    return None


def _by_hand(version: ModelVersion) -> str:
    return f"To prefer it nonetheless, give version {version.version} the alias {CHAMPION} in the MLflow UI"


def _right(predictor: Predictor, valid: Path) -> np.ndarray:
    """Mask of the validation images that the model gets right, bool [N]."""
    number = {name: c for c, name in enumerate(predictor.classes)}
    right: list[bool] = []
    for batch in pq.ParquetFile(valid).iter_batches(ROWS, columns=["label", "image"]):
        images = [image["bytes"] for image in batch.column("image").to_pylist()]
        labels = batch.column("label").to_pylist()
        predicted = predictor.predict(images).label
        right += [number[name] == label for name, label in zip(predicted, labels, strict=True)]
    return np.array(right, bool)
