"""Equal time: what is measured of each method, and the epochs that follow from it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from study_parts import variant_of
from training_parts import CPU, MakeSamples, make_job

from nla.config.data import DataConfig, SyntheticConfig
from nla.data.ingest import ingest
from nla.data.sources import open_source
from nla.errors import ConfigError, DataError, TrainingError
from nla.study import timing
from nla.study.grid import Grid
from nla.study.specs import run_specs, timed_setting
from nla.study.times import BlockTime, MethodTime, Times, read_times
from nla.study.timing import TURN, measure, require_idle
from nla.study.tuning import tuning_specs
from pipelines import study_time

PARAMS: dict[str, Any] = {"data": {"image_size": 16}, "model": {"width": 4}, "train": {"batch_size": 32}}
METHODS = {"ce": {"loss": {"name": "ce"}}, "resup": {"loss": {"name": "resup"}}}


def grid(**changes: Any) -> Grid:
    whole = {"methods": METHODS, "conditions": {"clean": {}}, "seeds": [1], "reference": "ce", "minutes": 1.0}
    return Grid.model_validate(whole | changes)


def times(block: str = "", **steps: float) -> Times:
    """One with 10 steps of so many seconds and an end of one second."""
    found = {}
    for method, step in steps.items():
        setting = timed_setting({**PARAMS, **METHODS[method]})
        found[method] = MethodTime(step=step, quartiles=(step, step), end=1.0, steps=10, measured=300, setting=setting)
    facts: dict[str, Any] = {"machine": {}, "versions": {}, "device": "AVX2", "precision": "fp32", "threads": 1}
    return Times(code="a", commit=None, blocks={block: BlockTime(rows={"clean": 320}, methods=found)}, **facts)


def test_each_method_gets_the_epochs_that_fit_in_the_time() -> None:
    """60 s: 1 + 10 x .1 s an epoch gives 30, 1 + 10 x .25 gives 17.1."""
    found = {
        spec.method: spec.params["train"]["epochs"]
        for spec in run_specs(grid(), PARAMS, times=times(ce=0.1, resup=0.25))
    }
    assert found == {"ce": 30, "resup": 17}


def test_a_block_has_its_own_minutes_and_times() -> None:
    blocks = {"short": {"methods": ["ce"]}, "long": {"methods": ["ce"], "minutes": 4.0}}
    both = times("short", ce=0.1)
    both.blocks["long"] = times(ce=0.2).blocks[""]
    found = {spec.block: spec.params["train"]["epochs"] for spec in run_specs(grid(blocks=blocks), PARAMS, times=both)}
    assert found == {"short": 30, "long": 80}


def test_tuning_has_the_time_of_its_block_and_may_change_what_the_time_does_not_depend_on() -> None:
    tuning = {"settings": 2, "conditions": ["clean"], "seed": 9, "candidates": {"all": [{"train": {"lr": 0.1}}]}}
    found = tuning_specs(grid(tuning=tuning), PARAMS, times(ce=0.1, resup=0.25))
    assert [(spec.method, spec.params["train"]["epochs"]) for spec in found] == [("ce", 30)] * 2 + [("resup", 17)] * 2


@pytest.mark.parametrize(
    ("changes", "known", "message"),
    [
        ({}, None, r"minutes: there is no time\.json\. Run `python \.\./\.\./pipelines/study_time\.py`"),
        ({}, times(ce=0.1), r"time\.json: no time of resup\. Run"),
        ({"blocks": {"a": {}}}, times(ce=0.1), r"time\.json: no time of ce in block a\. Run"),
        ({"minutes": 0.01}, times(ce=0.1, resup=0.1), r"minutes: an epoch of ce takes 0\.03 \(got 0\.01\)\. Raise it"),
        (
            {"methods": {**METHODS, "ce": {"loss": {"name": "ce"}, "model": {"width": 8}}}},
            times(ce=0.1, resup=0.1),
            r"time\.json: ce was measured with other parameters \(got .*4.*, not .*8",
        ),
    ],
)
def test_a_time_that_is_not_known_is_an_error(changes: dict[str, Any], known: Times | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_specs(grid(**changes), PARAMS, times=known)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "time.json"
    assert read_times(path) is None
    path.write_text(json.dumps(times(ce=0.1).model_dump() | {"threads": "two"}))
    with pytest.raises(DataError, match=r"time\.json: threads: .*study_time\.py"):
        read_times(path)


def test_steps_and_ends_of_each_method_are_measured(tiny_samples: MakeSamples) -> None:
    """`resup` has two networks, so that its steps take longer."""
    jobs = {name: make_job(epochs=4, loss={"name": name}) for name in ("ce", "resup")}
    settings = {name: {"loss": {"name": name}} for name in jobs}
    found = measure(jobs, variant_of(tiny_samples).split, CPU, settings, steps=20, ends=2)
    assert found.keys() == jobs.keys()
    for name, own in found.items():
        assert own.steps == 56 // 16 and own.measured == 2 * TURN and own.setting == settings[name]
        assert 0 < own.quartiles[0] <= own.step <= own.quartiles[1]
        assert own.epoch == own.steps * own.step + own.end
    assert found["resup"].step > found["ce"].step


def test_a_busy_or_nice_process_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "WATCH", 0.01)
    monkeypatch.setattr(os, "getpriority", lambda *_: 0)
    monkeypatch.setattr(timing.psutil, "cpu_percent", lambda seconds: 55.0)
    with pytest.raises(TrainingError, match="must be idle \\(got a load of 55 %\\)"):
        require_idle()
    monkeypatch.setattr(os, "getpriority", lambda *_: 10)
    with pytest.raises(TrainingError, match="niceness must be 0, as that of trainings \\(got 10\\)"):
        require_idle()


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with faces."""
    config = DataConfig(synthetic=SyntheticConfig(train=300, valid=100, test=100))
    (tmp_path / "data").mkdir()
    ingest(open_source(config, tmp_path), tmp_path / "data/faces.parquet", on_bad="error")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timing, "STEPS", TURN)
    return tmp_path


def test_the_command_measures_what_the_grid_compares(study: Path) -> None:
    found = study_time.measure_times(grid(), PARAMS, study)
    assert found.blocks[""].rows == {"clean": 300} and found.commit != ""
    assert [spec.params["train"]["epochs"] >= 1 for spec in run_specs(grid(), PARAMS, times=found)] == [True, True]
    lines = list(study_time.summary(grid(), found))
    assert len(lines) == 2 and "epochs in 1 minutes" in lines[0]


def test_what_blocks_have_in_common_is_measured_once(study: Path) -> None:
    blocks = {"short": {}, "long": {"methods": ["ce"], "minutes": 4}, "wide": {"params": {"model": {"width": 8}}}}
    short, long, wide = study_time.measure_times(grid(blocks=blocks), PARAMS, study).blocks.values()
    assert [*long.methods] == ["ce"] and long.methods["ce"] == short.methods["ce"] != wide.methods["ce"]


def test_conditions_of_other_sizes_need_another_block(study: Path) -> None:
    conditions = {"clean": {}, "imbalance": {"imbalance_factor": 5.0}}
    with pytest.raises(ConfigError, match=r"minutes: imbalance has \d+ training rows and clean 300.*another block"):
        study_time.measure_times(grid(conditions=conditions), PARAMS, study)
    with pytest.raises(ConfigError, match="no block has any"):
        study_time.measure_times(grid(minutes=None), PARAMS, study)
