"""Whether MLflow's store can be used, found out without creating or changing it."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient

from nla.tracking.database_server import check_server
from nla.tracking.store import database_file, prepared_uri, store_errors
from nla.workflow.paths import without_credentials


def probe_store(root: Path) -> str:
    """Says which store runs of the project in `root` go to, and that it answers, or that the first run creates it.

    Raises:
        TrackingError: it does not answer, or is of another program or version.
    """
    uri = prepared_uri()
    with store_errors(uri):
        if path := database_file(uri, root.absolute()):
            return _probe_file(path)
        check_server(uri)
        if uri.startswith("http"):
            MlflowClient(uri).search_experiments(max_results=1)
    return f"{without_credentials(uri)} answers"


def _probe_file(path: Path) -> str:
    from nla.tracking.database import is_unfinished  # imports the migrations, which a server does not need

    if not path.is_file() or not path.stat().st_size or is_unfinished(path):
        return f"{path}: the first run creates it"
    return f"{path}, {path.stat().st_size / 1e6:.0f} MB"
