"""video/: its stages fit together, its parameters are valid, and it runs from drawn clips to metrics."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from nla.config.base import flatten, merge, read_params, section
from nla.config.clips import READING_KEYS, ClipsConfig
from nla.config.evaluate import EvaluateConfig
from nla.config.sequence import SequenceConfig
from nla.training.job import training_config

ROOT = Path(__file__).parents[2]
VIDEO = ROOT / "video"
STAGES: dict[str, Any] = YAML(typ="safe", pure=True).load(VIDEO / "dvc.yaml")["stages"]
TINY: dict[str, Any] = {
    "clips": {"drawn": {"train": 30, "valid": 6, "test": 6, "frames": 40}, "noise": {"rate": 0.3, "law": "segment"}},
    "model": {"width": 4},
    "train": {"epochs": 2, "batch_size": 32},
    "evaluate": {"bootstrap": 100},
    "ray": {"num_workers": 0, "cpus_per_worker": 1, "use_gpu": False},
    "sequence": {"window": 20, "train": {"epochs": 2}},
}


def names(items: list[Any]) -> list[str]:
    return [next(iter(item)) if isinstance(item, dict) else item for item in items]


def test_the_parameters_are_valid_and_state_every_key_of_the_clips() -> None:
    params = read_params(VIDEO / "params.yaml")
    training_config(params)
    section(EvaluateConfig, params)
    for kind in (ClipsConfig, SequenceConfig):
        stated = section(kind, params).model_dump(mode="json")
        for key, value in flatten(params[kind.NAME]).items():
            assert flatten(stated)[key] == value, key
    assert set(ClipsConfig.model_fields) == set(params["clips"])


def test_each_stage_depends_on_what_the_ones_before_make() -> None:
    made: set[str] = set()
    for name, stage in STAGES.items():
        script = stage["cmd"].removeprefix("python ")
        assert (VIDEO / script).is_file() and script in stage["deps"], name
        others = {dep for dep in stage["deps"] if not dep.startswith("../")}
        assert others - {"best.yaml"} <= made, name
        made |= set(names(stage["outs"]))
        assert "metrics" not in stage, "its numbers stay out of `dvc metrics show` of the project"


def test_every_parameter_that_a_stage_depends_on_is_in_the_file() -> None:
    """DVC looks for it there, whatever its default is."""
    params = read_params(VIDEO / "params.yaml")
    known = {*params, *flatten(params)} | {f"clips.{key}" for key in params["clips"]}
    assert {name for stage in STAGES.values() for name in stage.get("params", [])} <= known


def test_reading_depends_on_its_own_keys_alone() -> None:
    """A change of the noise reads no video again."""
    assert set(STAGES["clips"]["params"]) == {f"clips.{key}" for key in READING_KEYS}


def test_git_ignores_what_the_stages_make() -> None:
    ignored = set((VIDEO / ".gitignore").read_text().split())
    for stage in STAGES.values():
        assert all(
            f"/{out.split('/')[0]}" in ignored or f"/{out.split('/')[0]}/" in ignored for out in names(stage["outs"])
        )


@pytest.mark.thorough
def test_from_drawn_clips_to_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # of a test before, in the same process
    shutil.copytree(VIDEO, tmp_path / "video", ignore=shutil.ignore_patterns("data", "features", "models", "reports"))
    params = tmp_path / "video/params.yaml"
    YAML(pure=True).dump(merge(YAML(typ="safe", pure=True).load(params), TINY), params)

    def run(stage: str) -> str:
        script = ROOT / "pipelines" / Path(STAGES[stage]["cmd"]).name
        done = subprocess.run([sys.executable, script], cwd=tmp_path / "video", capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    printed = {stage: run(stage) for stage in STAGES}
    assert "360 frames (30.00%), symmetric, per segment" in printed["prepare"]
    metrics = json.loads((tmp_path / "video/reports/metrics.json").read_text())
    assert list(metrics["test"]["methods"]) == ["frame_model", "smoothed", "sequence"]
    assert metrics["test"]["annotated"] == 240 and 0.8 < metrics["test"]["bayes_accuracy"] <= 1
    for stage in STAGES.values():
        assert all((tmp_path / "video" / out).exists() for out in names(stage["outs"]))
    before = (tmp_path / "video/sequence/model.safetensors").read_bytes()
    assert "was trained before: reusing the result" in run("sequence")
    assert (tmp_path / "video/sequence/model.safetensors").read_bytes() == before
