"""Logging of runs to MLflow."""

from __future__ import annotations

from nla.telemetry import disable_telemetry

disable_telemetry()  # MLflow starts its telemetry on import

from nla.tracking.store import configure, lacks_end, run_tags  # noqa: E402
from nla.tracking.tracker import MlflowTracker  # noqa: E402

__all__ = ["MlflowTracker", "configure", "lacks_end", "run_tags"]
