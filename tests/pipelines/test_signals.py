"""Ctrl-C, `kill` and a closed terminal in each stage, at random moments."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from patience import PATIENCE
from ruamel.yaml import YAML
from safetensors import safe_open
from tiny_project import ROOT, TINY, Finished, Project, stage_outs, survivors, user_environment

pytestmark = [pytest.mark.slow, pytest.mark.thorough, pytest.mark.usefixtures("hangup_ends")]
STUDY = "studies/tiny"
STUDY_OUTS = {"study": ["records", "runs.json"], "study_report": ["README.md", "figures", "results.json"]}
STAGES = ("ingest", "prepare", "audit", "tune", "train", "evaluate", "register", *STUDY_OUTS)
WORK = {
    "audit": {"audit": {"folds": 2, "epochs": 2}},
    "tune": {"tune": {"num_samples": 2, "epochs": 2, "scheduler": "none"}, "ray": {"max_concurrent_trials": 1}},
}
"""Parameters of stages that would have nothing to do otherwise."""
RESULTS = {
    "audit": ("reports/audit/labels.parquet",),
    "train": ("models/model.safetensors", "models/last.safetensors"),
}
"""Files that an interruption must not change."""
LINES = {
    signal.SIGINT: "interrupted: `dvc repro` resumes",
    signal.SIGTERM: "ended by SIGTERM: `dvc repro` resumes",
    signal.SIGHUP: "ended by SIGHUP: `dvc repro` resumes",
}
RAYS_OWN = re.compile(r"\[\d{4}-\d\d-\d\d .*\] \w+\.cc:\d+: ")
"""Ray's code in C++ writes by itself that it lost a message, at rare moments."""
ENDS_WITHIN = 30.0  # seconds: at most ten to put things in order, and a busy machine


@pytest.fixture(scope="module")
def project(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished pipeline, with a finished study beside it and a search that takes some seconds."""
    project = finished.project.copy(tmp_path_factory.mktemp("signals") / "project")
    folder = project / STUDY
    folder.mkdir(parents=True)
    (folder / "dvc.yaml").write_text((ROOT / "studies/ferplus/dvc.yaml").read_text())
    own = {"model": TINY["model"], "ray": {**TINY["ray"], "max_concurrent_trials": 1}}
    data = {**TINY["data"], "source": "synthetic", "raw": "../../data/raw"}
    YAML(pure=True).dump({**own, "data": data, "train": {"epochs": 2, "batch_size": 32}}, folder / "params.yaml")
    methods = {name: {"loss": {"name": name}} for name in ("ce", "elr")}
    grid = {"methods": methods, "conditions": {"clean": {}}, "seeds": [0], "reference": "ce"}
    YAML(pure=True).dump(grid, folder / "grid.yaml")
    project.dvc("repro", f"{STUDY}/dvc.yaml", PYTHONPATH=str(project.root))
    return project


@dataclass(frozen=True)
class Stage:
    """A stage in its own project, started from scratch."""

    project: Project
    name: str

    @property
    def folder(self) -> Path:
        return self.project / STUDY if self.name in STUDY_OUTS else self.project.root

    @property
    def outs(self) -> list[Path]:
        return [self.folder / out for out in STUDY_OUTS.get(self.name) or stage_outs(self.name)]

    def forget(self) -> None:
        """Removes the outs, and what the stage would reuse."""
        again = [self.project / ".runs"] if self.name in ("audit", "tune", "train", "study") else []
        again += [self.project / "mlflow.db", self.project / "mlruns"] if self.name == "register" else []
        for path in [*self.outs, *again]:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def start(self) -> subprocess.Popen[str]:
        """The stage, as DVC runs it, the first of its own process group."""
        script = [f"../../pipelines/{self.name}.py"] if self.name in STUDY_OUTS else ["-m", f"pipelines.{self.name}"]
        return subprocess.Popen(
            [sys.executable, *script],
            cwd=self.folder,
            env=user_environment() | {"PYTHONPATH": str(self.project.root)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self) -> float:
        """Seconds that it takes to its end."""
        started, process = time.monotonic(), self.start()
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
        assert all(out.exists() for out in self.outs)
        return time.monotonic() - started


@pytest.mark.parametrize("name", STAGES)
def test_it_ends_within_seconds_and_goes_on(name: str, project: Project, tmp_path: Path) -> None:
    stage, rng = Stage(project.copy(tmp_path / "project"), name), random.Random(name)
    stage.project.set(WORK.get(name, {}))
    stage.forget()
    whole = stage.run()
    results = results_of(stage)
    hits = 0
    for number in LINES:
        stage.forget()
        hits += strike(stage, number, rng.uniform(0.1, 0.9) * whole)
    assert hits
    stage.run()
    assert results_of(stage) == results


def strike(stage: Stage, number: signal.Signals, seconds: float) -> bool:
    """Sends the signal, SIGTERM to the stage and others to its process group; False if the stage was quicker."""
    process = stage.start()
    time.sleep(seconds)
    if process.poll() is not None:
        process.communicate()
        return False
    first = psutil.Process(process.pid)
    family = [first, *first.children(recursive=True)]
    send: Callable[[int, int], None] = os.kill if number == signal.SIGTERM else os.killpg
    send(process.pid, number)
    out, err = process.communicate(timeout=ENDS_WITHIN)
    when = f"{stage.name}, {number.name} after {seconds:.1f} s:\n{out}{err}"
    if process.returncode in (0, -number):  # it had just finished, or was done and about to
        assert all(out.exists() for out in stage.outs), when
        return False
    assert process.returncode == 128 + number, when
    said = [line for line in err.splitlines() if "was moved or copied" not in line and not RAYS_OWN.match(line)]
    assert said == [LINES[number]] and "Traceback" not in out, when
    assert not survivors(family, ENDS_WITHIN), when
    assert not stage.project.unfinished(), when
    for out_path in stage.outs:
        for path in out_path.rglob("*") if out_path.is_dir() else [out_path]:
            read_whole(path)
    return True


def read_whole(path: Path) -> None:
    """Reads a file of an out to its end, if it is there."""
    if path.suffix == ".parquet" and path.exists():
        pq.read_table(path)
    elif path.suffix == ".json" and path.exists():
        json.loads(path.read_text())
    elif path.suffix == ".safetensors" and path.exists():
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118
                file.get_tensor(key)


def results_of(stage: Stage) -> list[str]:
    """Hashes of what the stage ends with; [] if that differs between two runs."""
    return stage.project.sha256(*RESULTS.get(stage.name, ()))
