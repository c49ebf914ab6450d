"""Logs a study to MLflow: one parent run, and a nested run for each training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from nla.study.record import Record
from nla.tracking import MlflowTracker
from nla.tracking.store import PARENT, commit_tags, runs_by_tag

STUDY, RECORD = "nla.study", "nla.record"
"""Tags: the study's name and, on a nested run, the fingerprint and version of its record."""
WHOLE = "whole"
"""Value of RECORD on the parent run."""


class MlflowStudy:
    """Logs what the MLflow store lacks, from the records only: they may come from another machine."""

    def __init__(self, uri: str, name: str) -> None:
        self.uri, self.name, self.parent = uri, name, ""
        self.known = runs_by_tag(uri, STUDY, name, RECORD)

    @contextlib.contextmanager
    def opened(self, tags: Mapping[str, str]) -> Iterator[None]:
        """Opens the study's run, the same one at each call."""
        tracker = MlflowTracker(self.uri, system_metrics=False)
        before = self.known[WHOLE].run_id if WHOLE in self.known else None
        self.parent = tracker.start(self.name, {}, {**tags, STUDY: self.name, RECORD: WHOLE}, before)
        with tracker.closing():
            yield

    def log(self, record: Record, tags: Mapping[str, str], setting: int | None = None) -> None:
        """Logs a training: parameters, curves on validation, and test metrics of the epoch chosen on validation.

        Args:
            setting: number of the setting in the tuning of its method; tuning does not use test.
        """
        name = f"{record.fingerprint}-{record.version}"
        before = self.known.get(name)
        if before is not None and before.finished:
            return
        tracker = MlflowTracker(self.uri, system_metrics=False)
        made = commit_tags(record.facts.get("commit"))  # the commit that trained it, not the present one
        nested = {**tags, **made, PARENT: self.parent, STUDY: self.name, RECORD: name}
        what: dict[str, Any] = {"method": record.method, "condition": record.condition, "seed": record.seed}
        if setting is not None:
            what["setting"] = setting
        number = "" if setting is None else f", setting {setting}"
        shown = f"{record.method}, {record.condition}, {record.seed}{number}"
        tracker.start(shown, {**what, **record.params}, nested, before and before.run_id)
        with tracker.closing():
            curves = zip(record.valid_accuracy, record.valid_mean_accuracy, strict=True)
            for epoch, (accuracy, mean) in enumerate(curves, 1):
                tracker.log_epoch({"valid_accuracy": accuracy, "valid_mean_accuracy": mean}, epoch)
            chosen = record.best_epoch - 1
            if record.test_accuracy:
                test = {name: getattr(record, name)[chosen] for name in ("test_accuracy", "test_mean_accuracy")}
                tracker.log_metrics(test, record.best_epoch)
