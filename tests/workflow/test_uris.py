from __future__ import annotations

import pytest

from nla.workflow.paths import without_credentials


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql://me:secret@host:5432/db", "postgresql://host:5432/db"),
        ("https://me:sec@ret@host/path@x", "https://host/path@x"),
        ("postgresql://me:pa/ss@db/mlflow", "postgresql://db/mlflow"),
        ("postgresql+psycopg2://me:a?b@db/mlflow", "postgresql+psycopg2://db/mlflow"),
        ("postgresql://host/db?user=me&password=secret", "postgresql://host/db"),
    ],
)
def test_what_is_secret_is_left_out(uri: str, shown: str) -> None:
    assert without_credentials(uri) == shown
