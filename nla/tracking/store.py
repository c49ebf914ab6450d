"""The MLflow store: where it is, that it is ready, and how to find a run in it."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from mlflow import MlflowClient, set_tracking_uri
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from nla.errors import RegistryError
from nla.workflow.provenance import git_commit
from nla.workflow.uris import without_credentials

DEFAULT_URI = "sqlite:///mlflow.db"
ARTIFACTS = "mlruns"
EXPERIMENT = "nla"
STORE = "nla.store"
"""Tag of the experiment: an id of the store that holds on every machine."""
PARENT = "mlflow.parentRunId"
"""MLflow's tag of a nested run: the id of the run that it belongs to."""
STANDS_FOR = "nla.stands_for"
"""Tag of a run: the id, in another store, of the run that it repeats."""
HTTP_RETRIES = "3"
"""About 15 s until a server counts as away, not MLflow's 4 minutes: what it cannot be told now is told later."""
REFUSALS = (MlflowException, SQLAlchemyError)


def configure(root: Path) -> str:
    """The absolute URI of a store that is ready for any number of processes; exported to those started from here.

    MLFLOW_TRACKING_URI where it is set, else mlflow.db in `root`. A relative SQLite path is taken from `root`: stages
    also run in copies of the project that are thrown away. Raises RegistryError where the store cannot be used.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", HTTP_RETRIES)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    database = _database(uri, root.absolute())
    if database:
        database.parent.mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{database}"
    set_tracking_uri(uri)
    artifacts = None if uri.startswith("http") else ((database or root.absolute() / "_").parent / ARTIFACTS).as_uri()
    with refusals(uri), alone(uri):
        _open_experiment(MlflowClient(uri), artifacts)
    return uri


@contextlib.contextmanager
def alone(uri: str) -> Iterator[None]:
    """Keeps other processes out of a local store, whose tables must not be made by two at once."""
    database = _database(uri, Path())
    with FileLock(f"{database}.lock") if database else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def refusals(uri: str) -> Iterator[None]:
    """Errors of the store as RegistryError, passwords left out."""
    try:
        yield
    except REFUSALS as error:
        reason = f"the MLflow store {without_credentials(uri)} refuses: {explain(error, uri)}"
        raise RegistryError(f"{reason}\nCheck MLFLOW_TRACKING_URI, and that its server runs") from None


def explain(error: Exception, uri: str) -> str:
    """What a store said, without passwords; of a server that does not answer, the cause at the end alone."""
    return str(error).replace(uri, without_credentials(uri)).split("(Caused by ")[-1]


def store_id(client: MlflowClient) -> str:
    """What tells this store from others without naming a machine or a path."""
    return str(experiment(client).tags[STORE])


def experiment(client: MlflowClient) -> Experiment:
    """The experiment that `configure` opened. Raises RegistryError where it is missing or lies in the trash."""
    name = _experiment_name()
    found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        number = "" if found is None else f" with `mlflow experiments restore -x {found.experiment_id}`"
        raise RegistryError(f"MLflow's experiment {name} is deleted: restore it{number}, or set MLFLOW_EXPERIMENT_NAME")
    return found


def find_run(client: MlflowClient, run_id: str | None) -> Run | None:
    """The run of that id, or the one that stands for it in this store; None where neither is there."""
    if not run_id:
        return None
    try:
        run = client.get_run(run_id)
        if run.info.lifecycle_stage == "active":
            return run
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    found = client.search_runs([experiment(client).experiment_id], f"tags.`{STANDS_FOR}` = '{run_id}'", max_results=1)
    return found[0] if found else None


class Known(NamedTuple):
    """A run that the store has."""

    run_id: str
    finished: bool


def runs_by_tag(uri: str, tag: str, value: str, key: str) -> dict[str, Known]:
    """The runs in this store whose `tag` is `value`, by what their tag `key` says."""
    with refusals(uri):
        client = MlflowClient(uri)
        found: dict[str, Known] = {}
        token: str | None = None
        while token != "":
            page = client.search_runs(
                [experiment(client).experiment_id], f"tags.`{tag}` = '{value}'", page_token=token or None
            )
            found |= {
                run.data.tags[key]: Known(str(run.info.run_id), run.info.status == "FINISHED")
                for run in page
                if key in run.data.tags
            }
            token = page.token or ""
    return found


def lacks_end(uri: str, run_id: str | None) -> bool:
    """Whether this store has the run, and not as finished."""
    with refusals(uri):
        run = find_run(MlflowClient(uri), run_id)
    return run is not None and run.info.status != "FINISHED"


def run_tags(workspace: Path, fingerprint: str, data_hash: str) -> dict[str, str]:
    """What links an MLflow run to the code in `workspace`, the data and the DVC experiment that it comes from."""
    tags = {
        "nla.fingerprint": fingerprint,
        "nla.data": data_hash,
        **commit_tags(git_commit(workspace)),
        "mlflow.source.name": os.environ.get("DVC_STAGE"),
        "dvc.stage": os.environ.get("DVC_STAGE"),
        "dvc.exp_name": os.environ.get("DVC_EXP_NAME"),
        "dvc.exp_baseline": os.environ.get("DVC_EXP_BASELINE_REV"),
    }
    return {name: value for name, value in tags.items() if value}


def commit_tags(commit: str | None) -> dict[str, str]:
    """Of what `git_commit` gives; none outside git."""
    if not commit:
        return {}
    dirty = str(commit.endswith("-dirty")).lower()
    return {"nla.git_dirty": dirty, "mlflow.source.git.commit": commit.removesuffix("-dirty")}


def _database(uri: str, root: Path) -> Path | None:
    """The file of an SQLite store; None for other stores."""
    return root / uri.removeprefix("sqlite:///") if uri.startswith("sqlite:///") else None


def _experiment_name() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def _open_experiment(client: MlflowClient, artifacts: str | None) -> None:
    """Makes the experiment where it is missing, and gives the store its id."""
    if client.get_experiment_by_name(_experiment_name()) is None:
        with contextlib.suppress(MlflowException):  # another client of a server may have made it meanwhile
            client.create_experiment(_experiment_name(), artifacts)
    found = experiment(client)
    if STORE not in found.tags:
        client.set_experiment_tag(found.experiment_id, STORE, uuid.uuid4().hex)
