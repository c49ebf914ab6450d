"""Passwords, tokens and keys are neither shown nor logged."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow_parts import ROOT, free_port
from patience import PATIENCE

from nla.config.base import read_params
from nla.errors import ConfigError, TrackingError
from nla.masking import holds_secret, mask_streams, masked
from nla.tracking import MlflowTracker, configure

LOUD = """
import logging, sys, warnings
from nla.console import say
from nla.workflow.stage import run_stage
import os
URI, KEY = os.environ["MLFLOW_TRACKING_URI"], os.environ["AWS_SECRET_ACCESS_KEY"]
def main():
    say(f"store {URI}")
    print(f"key {KEY}")
    warnings.warn(f"warned of {URI}")
    for name in ("mlflow", "mlflow.utils.rest_utils", "ray.train", "nla.tracking", "alembic"):
        logging.getLogger(name).error("lost %s, %s", URI, KEY)
    try:
        raise OSError(f"no answer from {URI}")
    except OSError:
        logging.getLogger("mlflow").exception("failed")
    print(f"https://me:SecretOfUrl@example.org/x", file=sys.stderr)
    raise ValueError(f"bug: {URI}, {KEY}")
run_stage(main)
"""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no answer from http://me:secret@host:5000/api?a=1.", "no answer from http://host:5000/api?a=1."),
        ("postgresql://me:s@cr@t@host/db is down", "postgresql://host/db is down"),
        ("push to https://ghp_0123456789abcdefghijABCD@github.com/me/x", "push to https://github.com/me/x"),
        ("key AKIAIOSFODNN7EXAMPLE", "key ***"),
        ("GET https://b.s3/x?X-Amz-Signature=0f0f&y=1", "GET https://b.s3/x?X-Amz-Signature=***&y=1"),
        ("postgresql://host/db?user=me&password=secret", "postgresql://host/db?user=me&password=***"),
        ("{'Authorization': 'Basic bWU6c2VjcmV0'}", "{'Authorization': 'Basic ***'}"),
        ("GET https://h/x?access_token=abc&y=1", "GET https://h/x?access_token=***&y=1"),
        ("GET https://h/x?X-Amz-Security-Token=abc", "GET https://h/x?X-Amz-Security-Token=***"),
        ("https://h/x?api-key=abc or https://h/x?pwd=abc", "https://h/x?api-key=*** or https://h/x?pwd=***"),
        ("https://h/callback#access_token=abc", "https://h/callback#access_token=***"),
        ("AccountName=a;AccountKey=abc==;Suffix=x", "AccountName=a;AccountKey=***;Suffix=x"),
        ("connection to host=h user=me password='s 1' failed", "connection to host=h user=me password='*** 1' failed"),
        ("{'password': 'abc', \"api_key\": \"abc\"}", "{'password': '***', \"api_key\": \"***\"}"),
        ("hf_" + 34 * "a", "***"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("mail a@b.org, see https://x.org/@me", "mail a@b.org, see https://x.org/@me"),
        ("epoch 1/5: basic network, token 3", "epoch 1/5: basic network, token 3"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtn/FEMI+bPx", "wJalrXUtn/FEMI+bPx"),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtn/FEMI+bPx", "wJalrXUtn%2FFEMI%2BbPx"),
        ("MLFLOW_TRACKING_URI", "postgresql://me:pa/ss?word@db/mlflow", "pa/ss?word"),
        ("MLFLOW_TRACKING_URI", "http://me:pass%2Fword@host", "pass/word"),
        ("MLFLOW_TRACKING_PASSWORD", "very secret", "very secret"),
        ("PGPASSWORD", "s3cret!", "s3cret!"),
        ("MYSQL_PWD", "s3cret!", "s3cret!"),
        ("DB_PASS", "s3cret!", "s3cret!"),
        ("GITHUB_PAT", "s3cret!", "s3cret!"),
        ("AZURE_STORAGE_KEY", "s3cret!", "s3cret!"),
        ("API_TOKEN_V2", "s3cret!", "s3cret!"),
        ("wandb_api_key", "s3cret!", "s3cret!"),
        ("AZURE_STORAGE_CONNECTION_STRING", "AccountName=a;AccountKey=s3cret+/==;Suffix=x", "s3cret+/=="),
        ("MODEL_URL", "https://host/x?token=s3cret!", "s3cret!"),
        ("REMOTE", "https://s3cret-token@host/x.git", "s3cret-token"),
    ],
)
def test_secrets_of_the_environment_are_masked_anywhere(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, secret: str
) -> None:
    monkeypatch.setenv(name, value)
    assert secret not in masked(f"login failed for me with {secret} at {value}")


def test_a_short_or_empty_secret_hides_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "nla")
    monkeypatch.setenv("GITHUB_TOKEN", "")
    assert masked("nla trains") == "nla trains"


def test_folders_and_settings_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PWD": "/home/me", "OLDPWD": "/home/me/x", "TOKENIZERS_PARALLELISM": "parallel"}.items():
        monkeypatch.setenv(name, value)
    assert masked("/home/me/x, parallel") == "/home/me/x, parallel"


@pytest.mark.parametrize(("encoding", "written"), [("ascii", rb"\xfc \ud800"), ("utf-8", b"\xc3\xbc \\ud800")])
def test_what_an_output_cannot_encode_is_escaped(
    monkeypatch: pytest.MonkeyPatch, encoding: str, written: bytes
) -> None:
    """As `nla predict --out -` under an ASCII locale, for images with other names."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    mask_streams()
    print("\u00fc \ud800")
    stream.flush()
    assert stream.buffer.getvalue() == written + b"\n"  # type: ignore[attr-defined]


def test_a_stage_shows_and_logs_no_secret(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    secrets = {"MLFLOW_TRACKING_URI": "postgresql://me:SecretOfUri@host/db", "AWS_SECRET_ACCESS_KEY": "SecretOfKey"}
    env = {key: value for key, value in os.environ.items() if not key.startswith("DVC")} | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "loud.py"], cwd=tmp_path, env=env | secrets, capture_output=True, text=True, timeout=PATIENCE
    )
    log = (tmp_path / ".logs/loud.log").read_text()
    assert ended.returncode == 1
    assert "store postgresql://host/db" in ended.stdout and "key ***" in ended.stdout
    assert "ValueError: bug: postgresql://host/db, ***" in ended.stderr and "warned of" in ended.stderr
    assert log.count("lost postgresql://host/db, ***") == 5
    assert "Secret" not in (ended.stdout + ended.stderr + log).replace(" SecretOf{", "")


def test_the_login_of_a_server_is_in_no_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """MLflow reads user and password from variables of their own, so its messages cannot have them."""
    host = f"127.0.0.1:{free_port()}"
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "other")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://m%40e:Pass%2Fword@{host}/path")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.DEBUG), pytest.raises(TrackingError) as caught:
        configure(tmp_path)
    assert os.environ["MLFLOW_TRACKING_URI"] == f"http://{host}/path"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("m@e", "Pass/word")
    MlflowTracker(os.environ["MLFLOW_TRACKING_URI"], system_metrics=False).log_epoch({"loss": 1.0}, 1)
    said = caplog.text + str(caught.value)
    assert "could not log epoch 1" in said and host in said
    assert not [form for form in ("Pass/word", "Pass%2Fword", "m@e", "m%40e") if form in said]


@pytest.mark.parametrize(
    "value",
    [
        "s3://AKIAIOSFODNN7EXAMPLE:secret@bucket/x",
        "s3://b/x?secret_key=abc",
        "http://a:b@c",
        "[x, http://a:b@c]",
        "see http://a:b@c",
        "https://b/x?access_token=abc",
        "DefaultEndpointsProtocol=https;AccountKey=abc",
    ],
)
def test_params_hold_no_secret(tmp_path: Path, value: str) -> None:
    """DVC would copy it into dvc.lock, and `train` into MLflow."""
    (tmp_path / "params.yaml").write_text(f"ray:\n  storage_path: {value}\n")
    assert holds_secret(value)
    with pytest.raises(ConfigError, match=r"ray\.storage_path: holds a password.*AWS_ACCESS_KEY_ID") as caught:
        read_params(tmp_path / "params.yaml")
    assert not [part for part in ("secret@", "EXAMPLE", "=abc", "a:b") if part in str(caught.value)]


def test_the_projects_own_params_are_accepted() -> None:
    assert read_params(ROOT / "params.yaml")
