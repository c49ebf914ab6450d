"""Logs a study to MLflow: one parent run, and a nested run for each record."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from nla.study.record import Record
from nla.tracking import MlflowTracker
from nla.tracking.store import PARENT, commit_tags, runs_by_tag

STUDY, RECORD = "nla.study", "nla.record"
"""Tags: the study's name and, on a nested run, the fingerprint and version of its record."""
PARENT_RECORD = "whole"
"""Value of RECORD on the parent run."""


class MlflowStudy:
    """Logs what the MLflow store lacks, from the records only: they may come from another machine."""

    def __init__(self, uri: str, name: str) -> None:
        self.uri, self.name, self.parent = uri, name, ""
        self.logged = runs_by_tag(uri, STUDY, name, RECORD)

    @contextlib.contextmanager
    def opened(self, tags: Mapping[str, str]) -> Iterator[None]:
        """Opens the study's parent run, the same one at each call."""
        tracker = MlflowTracker(self.uri, system_metrics=False)
        before = self.logged[PARENT_RECORD].run_id if PARENT_RECORD in self.logged else None
        self.parent = tracker.start(self.name, {}, {**tags, STUDY: self.name, RECORD: PARENT_RECORD}, before)
        with tracker.closing():
            yield

    def log(self, record: Record, tags: Mapping[str, str], setting: int | None = None) -> None:
        """Logs a record: parameters, curves on validation, and test metrics of the epoch chosen on validation.

        Args:
            setting: number of the setting in the tuning of its method; tuning does not use test.
        """
        key = f"{record.fingerprint}-{record.version}"
        before = self.logged.get(key)
        if before is not None and before.finished:
            return
        trained_by = commit_tags(record.facts.get("commit"))  # the commit that trained it, not the present one
        nested = {**tags, **trained_by, PARENT: self.parent, STUDY: self.name, RECORD: key}
        params: dict[str, Any] = {"method": record.method, "condition": record.condition, "seed": record.seed}
        title = f"{record.method}, {record.condition}, {record.seed}"
        if setting is not None:
            params["setting"] = setting
            title += f", setting {setting}"
        tracker = MlflowTracker(self.uri, system_metrics=False)
        tracker.start(title, {**params, **record.params}, nested, before and before.run_id)
        with tracker.closing():
            _log_metrics(tracker, record)


def _log_metrics(tracker: MlflowTracker, record: Record) -> None:
    curves = zip(record.valid_accuracy, record.valid_mean_accuracy, strict=True)
    for epoch, (accuracy, mean) in enumerate(curves, 1):
        tracker.log_epoch({"valid_accuracy": accuracy, "valid_mean_accuracy": mean}, epoch)
    if record.test_accuracy:
        chosen = record.best_epoch - 1
        test = {name: getattr(record, name)[chosen] for name in ("test_accuracy", "test_mean_accuracy")}
        tracker.log_metrics(test, record.best_epoch)
