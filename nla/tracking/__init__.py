"""MLflow, or nothing: whoever is tracked cannot tell `MlflowTracker` from `NullTracker`."""

from __future__ import annotations

from nla.quiet import hush

hush()  # MLflow starts its telemetry when it is imported

from nla.tracking.store import configure, run_tags  # noqa: E402
from nla.tracking.tracker import MlflowTracker, NullTracker, Status, Tracker  # noqa: E402

__all__ = ["MlflowTracker", "NullTracker", "Status", "Tracker", "configure", "run_tags"]
