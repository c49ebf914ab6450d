"""A database server as store: what is missing is said at once, with the command that helps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mlflow_parts import free_port
from sqlalchemy.engine.default import DefaultDialect

from nla.errors import TrackingError
from nla.tracking import configure
from nla.tracking.database_server import check_server, missing_package
from nla.tracking.store import store_errors


@pytest.mark.parametrize(
    ("scheme", "module", "install"),
    [
        ("postgresql+psycopg", "psycopg", "-e .[postgres]"),
        ("postgresql+psycopg2", "psycopg2", "psycopg2-binary"),
        ("mysql", "MySQLdb", "mysqlclient"),
        ("mysql+pymysql", "pymysql", "pymysql"),
        ("mssql+pyodbc", "pyodbc", "pyodbc"),
    ],
)
def test_a_missing_driver_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, module: str, install: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # Python's way to say that there is none
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://me:secret@127.0.0.1/mlflow")
    with pytest.raises(TrackingError) as caught:
        configure(tmp_path)
    expected = f"{scheme}://127.0.0.1/mlflow: needs the Python package {module}. Run `pip install {install}`."
    assert str(caught.value) == f"MLflow store {expected}"


def test_so_is_that_of_its_files() -> None:
    with pytest.raises(TrackingError, match=r"boto3\. Run `pip install -e \.\[s3\]`"), store_errors("http://host"):
        raise ModuleNotFoundError("No module named 'boto3'", name="boto3")
    assert "google-cloud-storage" in missing_package(ModuleNotFoundError("no", name="google.cloud"))


def test_a_server_that_is_down_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow itself would try ten times, for two minutes."""
    monkeypatch.setattr(DefaultDialect, "import_dbapi", lambda: None, raising=False)
    for dialect in ("postgresql.psycopg.PGDialect_psycopg", "postgresql.psycopg2.PGDialect_psycopg2"):
        monkeypatch.setattr(f"sqlalchemy.dialects.{dialect}.import_dbapi", lambda: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://me:secret@127.0.0.1:{free_port()}/mlflow")
    with pytest.raises(TrackingError, match=r"MLflow store postgresql://127.0.0.1:\d+/mlflow: .*refused") as caught:
        configure(tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["databricks", "sqlite:////tmp/x.db", "no address at all", "http://127.0.0.1:1"])
def test_other_stores_are_left_to_mlflow(uri: str) -> None:
    check_server(uri)
