"""The end of a registration, for models of any kind: the version, whether it is champion, and what is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nla.serving.model_card import README
from nla.serving.promotion import Verdict
from nla.serving.registry import CHAMPION, README_TAG, Registry
from nla.tracking.run_record import RunRecord
from nla.tracking.store import ORIGINAL_RUN, find_run, store_id

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models.model import ModelInfo


@dataclass(frozen=True)
class Registration:
    """reports/registered.json."""

    name: str
    version: int
    run_id: str
    champion_before: int | None
    store: str
    """Id of the MLflow store."""
    decision: str
    reason: str
    difference: float | None
    low: float | None
    high: float | None


def add_version(
    registry: Registry, model: ModelInfo, run_id: str, tags: Mapping[str, str], readme: Path | None
) -> ModelVersion:
    """Registers the logged model with these tags, the commit of its run, and the place of its card if it has one."""
    commit = registry.client.get_run(run_id).data.tags.get("mlflow.source.git.commit", "unknown")
    card = {README_TAG: f"artifacts/{README}"} if readme else {}
    return registry.add(model, run_id, {**tags, **card, "nla.git_commit": commit})


def settled(
    registry: Registry,
    version: ModelVersion,
    run: RunRecord,
    judge: Callable[[ModelVersion | None], Verdict],
    results: str,
) -> Registration:
    """Gives the version the alias if it deserves it, and describes it in the registry.

    Args:
        registry: of the version, whose store is locked.
        version: the new version, or one that was registered before.
        run: of its training.
        judge: the verdict on the version beside a champion; asked again if another clone's comes in between.
        results: Markdown with its metrics.
    """
    champion = registry.champion()
    verdict = judge(champion)
    while verdict.decision == CHAMPION and not registry.promote(version, champion):
        champion = registry.champion()
        verdict = judge(champion)
    reason = verdict.reason + _copied_run_note(registry, version, run)
    path = version.tags.get(README_TAG)
    where = f"\n\nThe model card is the file `{path}` of the model." if path else ""
    registry.describe(version, f"{reason}.\n\n{results}{where}")
    return Registration(
        name=registry.name,
        version=int(version.version),
        run_id=str(version.run_id),
        champion_before=None if champion is None else int(champion.version),
        store=store_id(registry.client),
        decision=verdict.decision,
        reason=reason,
        difference=verdict.difference,
        low=verdict.low,
        high=verdict.high,
    )


def _copied_run_note(registry: Registry, version: ModelVersion, run: RunRecord) -> str:
    """A note for the user if the version's run is a copy of one in another store."""
    found = find_run(registry.client, version.run_id)
    if found is None or found.data.tags.get(ORIGINAL_RUN) != run.mlflow_run_id:
        return ""
    return f". This store lacks the run {run.mlflow_run_id}: {version.run_id} repeats its params and final metrics"
