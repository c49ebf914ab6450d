"""The MLflow store: configure it, and find runs in it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from filelock import FileLock, Timeout
from mlflow import MlflowClient, set_tracking_uri
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from nla.errors import TrackingError
from nla.masking import masked
from nla.text import shortened
from nla.tracking.database_server import check_server, missing_package, server_lock
from nla.tracking.relocation import BESIDE, follow_move
from nla.workflow.paths import without_credentials
from nla.workflow.provenance import git_commit

DEFAULT_URI = "sqlite:///mlflow.db"
ARTIFACTS = "mlruns"
EXPERIMENT = "nla"
STORE = "nla.store"
"""Tag of the experiment: an id of the store, the same from every machine."""
KIND = "mlflow.experimentKind"
"""MLflow's tag that lets its UI open an experiment with training runs, or with traces of language models."""
PARENT = "mlflow.parentRunId"
"""MLflow's tag of a nested run: the id of its parent run."""
ORIGINAL_RUN = "nla.stands_for"
"""Tag of a run that is a copy: the id of the original in another store."""
HTTP_LIMITS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0.5",
}
"""A call gives up within 15 s on a server that refuses or never answers: 3 times 4 s, and 3 s between. With MLflow's
own limits it takes a quarter of an hour; metrics are sent again later."""
DATABASE_LIMITS = {"PGCONNECT_TIMEOUT": "15", "PGOPTIONS": "-c statement_timeout=60s"}
"""For PostgreSQL's client library, which waits without end: seconds until there is a connection, and until the server
gives up on a statement, such as one that waits for a lock."""
FILE_TIMEOUT = "120"
"""Seconds for a server's answer to a file, which it may first have to pass on to another storage; MLflow's default."""
LOCKED = "database is locked"
"""What SQLite says when another process did not let go of a file within the seconds that a call waits: 20 in MLflow."""
PATIENT_SECONDS, LOCK_SECONDS = 30.0, 900.0
"""How long the lock of a store is waited for silently, and at all: `register` holds it while it compares two models."""
log = logging.getLogger(__name__)
STORE_ERRORS = (MlflowException, SQLAlchemyError, sqlite3.Error, ConnectionError, TimeoutError, socket.gaierror)


def configure(root: Path) -> str:
    """Prepares the store for any number of processes, and returns its absolute URI, also exported to child processes.

    The store is MLFLOW_TRACKING_URI if set, else mlflow.db in `root`. A relative SQLite path is relative to `root`,
    because stages also run in temporary copies of the project.

    Raises:
        TrackingError: the store cannot be used.
    """
    uri = prepared_uri()
    database = database_file(uri, root.absolute())
    if database:
        database.parent.mkdir(parents=True, exist_ok=True)
        uri = sqlite_uri(database)
    set_tracking_uri(uri)
    artifacts = None if uri.startswith("http") else (database or root.absolute() / "_").parent / ARTIFACTS
    with store_errors(uri), contextlib.ExitStack() as held:
        if artifacts and not database:
            check_server(uri)
        held.enter_context(store_lock(uri))
        if database:
            from nla.tracking.database import ensure_database  # imports the migrations, which a server does not need

            ensure_database(database)
            if artifacts and (old := follow_move(database, artifacts)):
                log.warning("%s was moved or copied: it keeps its files in %s now, not in %s", database, artifacts, old)
        _open_experiment(MlflowClient(uri), None if artifacts is None else artifacts.as_uri())
    return uri


def prepared_uri() -> str:
    """The address of the store; limits of time, user and password are put into the environment for MLflow."""
    for name, limit in {**HTTP_LIMITS, **DATABASE_LIMITS}.items():
        os.environ.setdefault(name, limit)
    return _without_login(os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)


@contextlib.contextmanager
def file_transfer() -> Iterator[None]:
    """Gives the server more time to answer, unless the user has set how much."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    before = os.environ.get(name)
    if before == HTTP_LIMITS[name]:
        os.environ[name] = FILE_TIMEOUT
    try:
        yield
    finally:
        if before is not None:
            os.environ[name] = before


@contextlib.contextmanager
def store_lock(uri: str) -> Iterator[None]:
    """Locks a database: two processes must not create its tables, or decide on the champion, at the same time.

    A server of MLflow makes its own tables, and has no lock; see `Registry.promote`. Raises an error, TrackingError
    for a file, if another process holds the lock for longer than LOCK_SECONDS, perhaps because it hangs.
    """
    database = database_file(uri, Path())
    with _file_lock(database.with_name(f"{database.name}.lock")) if database else server_lock(uri, LOCK_SECONDS):
        yield


@contextlib.contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=PATIENT_SECONDS)
    except Timeout:
        log.warning("%s: another process is at work in this MLflow store: waiting for it", path)
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise TrackingError(
                f"{path}: locked for more than {LOCK_SECONDS:g} s by another process. End it, and run this again."
            ) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def store_errors(uri: str, error_class: type[TrackingError] = TrackingError) -> Iterator[None]:
    """Converts errors of the store to `error_class`, without credentials."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise error_class(f"MLflow store {without_credentials(uri)}: {missing_package(error)}") from None
    except STORE_ERRORS as error:
        reason = f"MLflow store {without_credentials(uri)}: {explain(error, uri)}"
        if LOCKED in reason:
            raise error_class(f"{reason}, by another program. End it, and run this again.") from None
        raise error_class(f"{reason}\nCheck MLFLOW_TRACKING_URI, and that the server is running.") from None
    except OSError as error:  # of its files
        error.filename = error.filename or f"MLflow store {without_credentials(uri)}"
        raise


def explain(error: Exception, uri: str) -> str:
    """The store's error message without passwords and SQL; for an unreachable server, only the underlying cause."""
    text = str(error).split("\n[SQL: ")[0]
    return masked(text.replace(uri, without_credentials(uri))).split("(Caused by ")[-1]


def brief(error: Exception) -> str:
    """The error in one line for use inside a sentence, without the traceback that MLflow may add to its messages."""
    return shortened(" ".join(masked(str(error)).partition("Traceback")[0].split()), 200)


def store_id(client: MlflowClient) -> str:
    """Id that distinguishes this store from others without naming a machine or a path."""
    return str(experiment(client).tags[STORE])


def experiment(client: MlflowClient) -> Experiment:
    """The experiment that `configure` opened. Raises TrackingError if it is missing or deleted."""
    name = _experiment_name()
    found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        number = "" if found is None else f" with `mlflow experiments restore -x {found.experiment_id}`"
        raise TrackingError(f"MLflow experiment {name}: deleted. Restore it{number}, or set MLFLOW_EXPERIMENT_NAME.")
    return found


def find_run(client: MlflowClient, run_id: str | None) -> Run | None:
    """The run with that id, or its copy in this store; None if neither exists."""
    if not run_id:
        return None
    try:
        run = client.get_run(run_id)
        if run.info.lifecycle_stage == "active":
            return run
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    found = client.search_runs([experiment(client).experiment_id], f"tags.`{ORIGINAL_RUN}` = '{run_id}'", max_results=1)
    return found[0] if found else None


class StoredRun(NamedTuple):
    """A run in the store."""

    run_id: str
    finished: bool


def runs_by_tag(uri: str, tag: str, value: str, key: str) -> dict[str, StoredRun]:
    """The runs in this store whose `tag` is `value`, keyed by their tag `key`."""
    with store_errors(uri):
        client = MlflowClient(uri)
        found: dict[str, StoredRun] = {}
        token: str | None = None
        while token != "":
            page = client.search_runs(
                [experiment(client).experiment_id], f"tags.`{tag}` = '{value}'", page_token=token or None
            )
            found |= {
                run.data.tags[key]: StoredRun(str(run.info.run_id), run.info.status == "FINISHED")
                for run in page
                if key in run.data.tags
            }
            token = page.token or ""
    return found


def lacks_end(uri: str, run_id: str | None) -> bool:
    """Whether this store has the run, but not as finished."""
    with store_errors(uri):
        run = find_run(MlflowClient(uri), run_id)
    return run is not None and run.info.status != "FINISHED"


def run_tags(workspace: Path, fingerprint: str, data_hash: str, corrections: str | None = None) -> dict[str, str]:
    """Tags that link an MLflow run to the code in `workspace`, the data, the hash of its corrections, and the DVC
    experiment."""
    tags = {
        "nla.fingerprint": fingerprint,
        "nla.data": data_hash,
        "nla.corrections": corrections,
        **commit_tags(git_commit(workspace)),
        "mlflow.source.name": os.environ.get("DVC_STAGE"),
        "dvc.stage": os.environ.get("DVC_STAGE"),
        "dvc.exp_name": os.environ.get("DVC_EXP_NAME"),
        "dvc.exp_baseline": os.environ.get("DVC_EXP_BASELINE_REV"),
    }
    return {name: value for name, value in tags.items() if value}


def commit_tags(commit: str | None) -> dict[str, str]:
    """Tags for a commit as returned by `git_commit`; {} outside git."""
    if not commit:
        return {}
    dirty = str(commit.endswith("-dirty")).lower()
    return {"nla.git_dirty": dirty, "mlflow.source.git.commit": commit.removesuffix("-dirty")}


def database_file(uri: str, root: Path) -> Path | None:
    """The file of an SQLite store; None for other stores."""
    return root / (make_url(uri).database or "") if uri.startswith(("sqlite:///", "sqlite+pysqlite:///")) else None


def sqlite_uri(database: Path) -> str:
    """The address of an SQLite file.

    In an address, ? and % are signs, and have to be escaped if a folder has them in its name. MLflow would make a
    folder of the escaped name; it does not where the driver is named.
    """
    plain = f"sqlite:///{database}"
    if make_url(plain).database == str(database):
        return plain
    return URL.create("sqlite+pysqlite", database=str(database)).render_as_string()


def _without_login(uri: str) -> str:
    """The address of a server; its user and password go to the variables from which MLflow reads them.

    In an address, they would be in each message and log of MLflow, of the libraries below it, and of Python.
    """
    parts = urlsplit(uri)
    if not uri.startswith("http") or parts.username is None:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _experiment_name() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def _open_experiment(client: MlflowClient, artifacts: str | None) -> None:
    """Creates the experiment if it is missing, and gives the store its id."""
    if client.get_experiment_by_name(_experiment_name()) is None:
        with contextlib.suppress(MlflowException):  # another client may have created it meanwhile
            client.create_experiment(_experiment_name(), artifacts)
    found = experiment(client)
    if artifacts == found.artifact_location and BESIDE not in found.tags:
        client.set_experiment_tag(found.experiment_id, BESIDE, "beside the store")
    if KIND not in found.tags:
        client.set_experiment_tag(found.experiment_id, KIND, "custom_model_development")
    if STORE not in found.tags:
        client.set_experiment_tag(found.experiment_id, STORE, uuid.uuid4().hex)
