from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from mlflow_parts import run_python

from nla.telemetry import DEFAULTS, disable_telemetry

ASK = """
import json
from nla.telemetry import disable_telemetry
disable_telemetry()
from mlflow.telemetry.utils import is_telemetry_disabled
from ray._common.usage.usage_lib import usage_stats_enabled
print(json.dumps([not is_telemetry_disabled(), usage_stats_enabled()]))
"""


@pytest.mark.parametrize("wish", ["default", "on"])
def test_libraries_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wish: str) -> None:
    """Asks MLflow and Ray themselves. The variables of CI services would silence MLflow in any case."""
    for name in ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "JENKINS_URL", "TF_BUILD", "CIRCLECI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    on = {"MLFLOW_DISABLE_TELEMETRY": "false", "RAY_USAGE_STATS_ENABLED": "1"}
    done = run_python(ASK, tmp_path, HOME=str(tmp_path), **(on if wish == "on" else {}))
    assert json.loads(done.stdout) == [wish == "on"] * 2, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("first", ["", "import nla.telemetry; nla.telemetry.disable_telemetry()"])
def test_albumentations_asks_for_updates_unless_hushed(tmp_path: Path, first: str) -> None:
    code = f"""
import urllib.request
def ask(*args, **kwargs): print("asked")
urllib.request.OpenerDirector.open = ask
{first}
import albumentations
"""
    done = run_python(code, tmp_path, PYTHONWARNINGS="ignore")
    assert done.returncode == 0, done.stderr
    assert ("asked" in done.stdout) == (first == "")


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DEFAULTS:
        monkeypatch.setenv(name, "mine")
    disable_telemetry()
    assert {os.environ[name] for name in DEFAULTS} == {"mine"}
