"""Logs a run to MLflow; only the driver holds a tracker, workers do not."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_RUN_NOTE
from mlflow.utils.validation import (
    MAX_ENTITY_KEY_LENGTH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
    MAX_TAG_VAL_LENGTH,
)

from nla.config.base import flatten
from nla.data.schema import TableInfo
from nla.errors import TrackingError
from nla.tracking.dataset import TableDataset
from nla.tracking.run_record import RunRecord
from nla.tracking.store import ORIGINAL_RUN, STORE_ERRORS, experiment, explain, file_transfer, find_run, store_errors
from nla.tracking.summary import ALL_METRICS, headline_metrics, note

Status = Literal["FINISHED", "FAILED", "KILLED"]
log = logging.getLogger(__name__)


class MlflowTracker:
    """Logs a run to the store `uri`, as returned by `configure`. Raises TrackingError if the store cannot be used."""

    def __init__(self, uri: str, *, system_metrics: bool = True) -> None:
        self._uri = uri
        self._client = MlflowClient(uri)
        self._system_metrics = system_metrics
        self._monitor: Any = None
        self._run_id, self._start_ms = "", 0
        self._pending: list[Metric] = []
        self._steps: dict[str, set[int]] = {}
        self._is_lost = False

    def start(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str], run_id: str | None = None) -> str:
        """Opens a run, or resumes `run_id` if the store has it. Returns the run's id."""
        with self._store():
            run = find_run(self._client, run_id)
            if run is None:
                origin = {ORIGINAL_RUN: run_id} if run_id else {}
                run = self._client.create_run(experiment(self._client).experiment_id, run_name=name, tags=origin)
            else:
                self._client.update_run(run.info.run_id, status="RUNNING")
            self._run_id, self._start_ms = str(run.info.run_id), run.info.start_time
            self._log_params(params, run)
            given = [RunTag(_key(key), _truncated(value, MAX_TAG_VAL_LENGTH)) for key, value in tags.items()]
            self._client.log_batch(self._run_id, tags=given)
        if self._system_metrics:
            self._monitor = _monitor(self._run_id, self._uri)
            self._monitor.start()
        return self._run_id

    def reopen(self, run: RunRecord) -> str:
        """Resumes the run of run.json, or creates a copy in a store that lacks it. Returns the id in this store."""
        return self.start(run.name, {**run.params, "facts": run.facts}, run.tags, run.mlflow_run_id)

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Closes the run in any case: FAILED after an error, KILLED if the process is being terminated."""
        status: Status = "KILLED"
        try:
            yield
            status = "FINISHED"
        except Exception:
            status = "FAILED"
            raise
        finally:
            self.finish(status)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs parameters, nested or flat; values that the run already has are not changed."""
        with self._store():
            self._log_params(params, self._client.get_run(self._run_id))

    def log_epoch(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Logs metrics of an epoch, unless the run has them. If the store is unreachable, they are sent later."""
        self._pending += _metrics(metrics, epoch)
        try:
            self._send()
            self._is_lost = False
        except STORE_ERRORS as error:
            self._is_lost = True
            reason = explain(error, self._uri)
            log.warning("could not log epoch %d to MLflow; will retry with the next epoch: %s", epoch, reason)

    def log_metrics(self, metrics: Mapping[str, Any], epoch: int) -> None:
        """Logs final metrics of that epoch's model, nested or flat; values that are not finite numbers are skipped."""
        numbers = {name: value for name, value in flatten(metrics).items() if _is_finite(value)}
        with self._store():
            new = [later for metric in _metrics(numbers, epoch) if (later := self._later(metric)) is not None]
            self._client.log_batch(self._run_id, metrics=new)

    def log_result(self, metrics: Mapping[str, Any], epoch: int) -> None:
        """Logs what `evaluate` measured: the headline metrics, all of them as an artifact, and a note with tables."""
        self.log_metrics(headline_metrics(metrics), epoch)
        with self._store(), file_transfer():
            self._client.log_dict(self._run_id, dict(metrics), ALL_METRICS)
            self._client.set_tag(self._run_id, MLFLOW_RUN_NOTE, _truncated(note(metrics), MAX_TAG_VAL_LENGTH))

    def log_dataset(self, path: Path, info: TableInfo, context: str) -> None:
        """Logs a table of samples by hash, rows and class counts; `context` is its role, such as training."""
        dataset = TableDataset(path, info)._to_mlflow_entity()
        with self._store():
            self._client.log_inputs(self._run_id, [DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])])

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Logs a file into the artifact folder `folder`."""
        with self._store(), file_transfer():
            self._client.log_artifact(self._run_id, str(path), folder)

    def finish(self, status: Status = "FINISHED", ended: float | None = None) -> None:
        """Closes the run.

        With a status other than FINISHED, an error of the store leaves the run open instead of hiding the original
        error. After a failed call the store is not called again, which would only repeat the wait.

        Args:
            status: final status of the run.
            ended: Unix time in seconds; None for now.
        """
        is_final = status == "FINISHED"
        if self._monitor is not None:
            _stop(self._monitor, wait=is_final or not self._is_lost)
        if self._is_lost and not is_final:
            return
        forgiving = contextlib.nullcontext() if is_final else contextlib.suppress(TrackingError)
        with forgiving, self._store():
            self._send()
            end_ms = round(1000 * (time.time() if ended is None else ended))
            self._client.set_terminated(self._run_id, status, max(end_ms, self._start_ms))  # the clock may be set back

    @contextlib.contextmanager
    def _store(self) -> Iterator[None]:
        """Converts the store's errors, and remembers whether the last call failed."""
        try:
            with store_errors(self._uri):
                yield
        except TrackingError:
            self._is_lost = True
            raise
        self._is_lost = False

    def _log_params(self, params: Mapping[str, Any], run: Run) -> None:
        texts = {_key(name): _truncated(_text(value), MAX_PARAM_VAL_LENGTH) for name, value in flatten(params).items()}
        missing = [Param(name, text) for name, text in texts.items() if name not in run.data.params]
        for start in range(0, len(missing), MAX_PARAMS_TAGS_PER_BATCH):
            self._client.log_batch(self._run_id, params=missing[start : start + MAX_PARAMS_TAGS_PER_BATCH])

    def _send(self) -> None:
        """Logs the pending metrics that the store lacks: after a resume or an outage it can have some already."""
        try:
            new = [metric for metric in self._pending if metric.step not in self._known_steps(metric.key)]
            self._client.log_batch(self._run_id, metrics=new)
        except STORE_ERRORS:
            self._steps.clear()
            raise
        for metric in new:
            self._known_steps(metric.key).add(metric.step)
        self._pending.clear()

    def _known_steps(self, key: str) -> set[int]:
        if key not in self._steps:
            self._steps[key] = {metric.step for metric in self._client.get_metric_history(self._run_id, key)}
        return self._steps[key]

    def _later(self, metric: Metric) -> Metric | None:
        """The metric, later than what its step has; None if it has the same value.

        MLflow shows the latest, also if the clock was set back.
        """
        history = self._client.get_metric_history(self._run_id, metric.key)
        before = [each for each in history if each.step == metric.step]
        last = max(before, key=lambda each: each.timestamp, default=None)
        if last is None:
            return metric
        time_ms = max(metric.timestamp, last.timestamp + 1)
        return None if last.value == metric.value else Metric(metric.key, metric.value, time_ms, metric.step)


def _monitor(run_id: str, uri: str) -> Any:
    """Monitor of CPU, memory, disk and network every ten seconds; its steps continue those of a resumed run.

    MLflow adds the GPU if nvidia-ml-py is installed, the extra `gpu`.
    """
    return SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=uri)  # type: ignore[no-untyped-call]


def _stop(monitor: Any, wait: bool) -> None:
    """Stops the monitor's thread, without waiting for it if the store does not answer."""
    if wait:
        monitor.finish()
    else:
        monitor._shutdown_event.set()


def _metrics(values: Mapping[str, float], step: int) -> list[Metric]:
    now = int(time.time() * 1000)
    return [Metric(_key(name), float(value), now, step) for name, value in values.items()]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _key(name: str) -> str:
    """`name` with underscores for the characters that MLflow rejects, as in some class names."""
    return re.sub(r"[^/\w.\- ]", "_", name)[:MAX_ENTITY_KEY_LENGTH]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _truncated(text: str, limit: int) -> str:
    """`text`, cut to `limit` characters with a note of its full length."""
    note = f" ... ({len(text)} characters)"
    return text if len(text) <= limit else text[: limit - len(note)] + note
