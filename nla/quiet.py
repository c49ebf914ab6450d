"""Nothing phones home, and libraries say only what a person needs, unless the user has set it otherwise.

DVC runs before us and reads its own configuration: `core.analytics` and `core.check_update` in .dvc/config.
"""

from __future__ import annotations

import os

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # its other switch, DO_NOT_TRACK, would overrule a user who wants telemetry
    "RAY_USAGE_STATS_ENABLED": "0",
    "NO_ALBUMENTATIONS_UPDATE": "1",  # asks PyPI for a newer version at each import
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # Alembic's too: one line for each of some hundred migrations of a new store
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def hush() -> None:
    """Sets what the environment leaves open; to be called before the libraries are imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
