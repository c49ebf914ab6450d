"""Turns off telemetry and needless library output, unless the user has set it otherwise.

DVC runs before this code and reads its own configuration: `core.analytics` and `core.check_update` in .dvc/config.
"""

from __future__ import annotations

import os

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # DO_NOT_TRACK, its other switch, would overrule a user who wants telemetry
    "RAY_USAGE_STATS_ENABLED": "0",
    "NO_ALBUMENTATIONS_UPDATE": "1",  # it would query PyPI for a newer version at each import
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # silences Alembic too: some hundred lines for a new store
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def disable_telemetry() -> None:
    """Sets variables that the environment leaves unset; call it before importing the libraries."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
