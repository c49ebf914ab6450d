"""A small real project for end-to-end tests: this code, with git and DVC, in a folder of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run
from patience import PATIENCE
from ruamel.yaml import YAML

from nla.config.base import flatten, merge

ROOT = Path(__file__).parents[2]
PARTS = (
    "nla",
    "pipelines",
    "data/raw/synthetic",
    "data/corrections.csv",
    "dvc.yaml",
    "params.yaml",
    "pyproject.toml",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitignore",
)
TINY: dict[str, dict[str, Any]] = {
    "data": {"synthetic": {"train": 200, "valid": 104, "test": 104}, "image_size": 32},
    "model": {"width": 8},
    "train": {"epochs": 6, "batch_size": 32},
    "evaluate": {"bootstrap": 100},
    "register": {"bootstrap": 100},
    "ray": {"use_gpu": False, "cpus_per_worker": 1},  # bits are compared; threads that wait for each other cost time
}
OF_THE_USER = ("DVC", "GIT", "MLFLOW", "PYTEST", "PYTHONPATH", "RAY", "MAKE", "NO_ALBUMENTATIONS")
POLL = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"
"""How often Ray looks at its workers. The checkpoint of an epoch waits for that, so it sets the pace of training."""


@dataclass(frozen=True)
class Outcome:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All that it printed."""
        return self.out + self.err


class Background:
    """A command under way, the first of its own process group."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text()

    def wait_for(self, pattern: str, seconds: float = PATIENCE) -> None:
        """Returns when `pattern` is printed; AssertionError where the command ends before, or time does."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert self.process.poll() is None and time.monotonic() < end, f"no {pattern!r} in:\n{self.text}"
            time.sleep(0.02)

    def wait(self, seconds: float = PATIENCE) -> str:
        """What it printed, once it has ended well."""
        assert self.process.wait(seconds) == 0, self.text
        return self.text

    def family(self) -> list[psutil.Process]:
        """It and all processes that it has started, directly or not."""
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def kill(self, *, group: bool = False) -> None:
        """SIGKILL, to its whole process group or to it alone."""
        if group:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()


@dataclass(frozen=True)
class Project:
    """A folder with all that a clone has, and what DVC made in it."""

    root: Path

    @classmethod
    def make(cls, root: Path, params: Mapping[str, Any] = TINY) -> Project:
        """A new one, committed, with `params` over those of params.yaml."""
        for part in PARTS:
            target = root / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / part, target)
        project = cls(root)
        project.set(params)
        project.git("init", "--quiet")
        project.know_author()
        project.commit("start")
        return project

    def copy(self, root: Path) -> Project:
        """The same in another folder, which has no name for its runs in the MLflow store of this one."""
        shutil.copytree(self.root, root, symlinks=True)
        return Project(root)

    def clone(self, root: Path) -> Project:
        """What `git clone` gives somebody else."""
        self.git("clone", "--quiet", str(self.root), str(root))
        clone = Project(root)
        clone.know_author()
        return clone

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    @property
    def params(self) -> dict[str, Any]:
        """params.yaml."""
        return YAML(typ="safe", pure=True).load(self / "params.yaml")

    def set(self, params: Mapping[str, Any]) -> None:
        """Lays `params` over params.yaml."""
        YAML(pure=True).dump(merge(self.params, params), self / "params.yaml")

    def read_json(self, name: str) -> dict[str, Any]:
        """A record."""
        return json.loads((self / name).read_text())

    def sha256(self, *names: str) -> list[str]:
        """Hashes of files."""
        return [hashlib.sha256((self / name).read_bytes()).hexdigest() for name in names]

    @property
    def store(self) -> str:
        """URI of the MLflow store that a project has where nobody names another."""
        return f"sqlite:///{self / 'mlflow.db'}"

    def runs(self) -> list[Run]:
        """All runs of that store."""
        client = MlflowClient(self.store)
        found = client.get_experiment_by_name("nla")
        assert found is not None
        return list(client.search_runs([found.experiment_id]))

    def git(self, *words: str) -> str:
        """What a git command prints."""
        done = self._run(["git", *words])
        assert done.code == 0, done.text
        return done.out.strip()

    def know_author(self) -> None:
        """The identity that commits need."""
        self.git("config", "user.name", "Tester")
        self.git("config", "user.email", "tester@example.org")

    def commit(self, message: str) -> None:
        """All that git does not ignore."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def dvc(self, *words: str, **env: str) -> str:
        """What a DVC command prints that ends well."""
        done = self.try_dvc(*words, **env)
        assert done.code == 0, f"dvc {' '.join(words)} ended with {done.code}:\n{done.text}"
        return done.text

    def try_dvc(self, *words: str, **env: str) -> Outcome:
        """A DVC command that need not end well."""
        return self._run([str(DVC), *words], env)

    def start_dvc(self, *words: str, **env: str) -> Background:
        """A DVC command in the background."""
        log = self.root.with_name(f"{self.root.name}-{time.monotonic_ns()}.log")
        with log.open("wb") as file:
            process = subprocess.Popen(
                [str(DVC), *words],
                cwd=self.root,
                env=user_environment() | env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Background(process, log)

    def try_stage(self, name: str, **env: str) -> Outcome:
        """A stage's script as DVC runs it, its outs removed before."""
        for out in stage_outs(name):
            path = self / out
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return self._run([sys.executable, "-m", f"pipelines.{name}"], env)

    def unfinished(self) -> list[str]:
        """Files that somebody began to write and did not finish."""
        hidden = {".git", ".dvc", ".runs"}
        suffixes = {".part", ".partial", ".tmp"}
        files = (path.relative_to(self.root) for path in self.root.rglob("*"))
        return [str(path) for path in files if path.parts[0] not in hidden and path.suffix in suffixes]

    def _run(self, command: list[str], env: Mapping[str, str] | None = None) -> Outcome:
        done = subprocess.run(
            command,
            cwd=self.root,
            env=user_environment() | dict(env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Finished:
    """A project after its first `dvc repro`, committed."""

    project: Project
    printed: str
    """By that `dvc repro`."""


SECRETS = {name: f"Planted-{name}" for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "GITHUB_TOKEN")}
"""Passwords and keys that the environment of the first `dvc repro` holds, and the address of a git remote."""
DVC = Path(sys.executable).with_name("dvc")
PIPELINE: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")


def stage_outs(name: str) -> list[str]:
    """Paths of a stage's outs, metrics too."""
    stage = PIPELINE["stages"][name]
    listed = [*stage["outs"], *stage.get("metrics", [])]
    return [next(iter(out)) if isinstance(out, dict) else out for out in listed]


def user_environment() -> dict[str, str]:
    """That of a user without a GPU who has set nothing and has activated the environment of these tests."""
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(OF_THE_USER)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{theirs.get('PATH', '')}"
    nobodys = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return {**theirs, **nobodys, "PATH": path, "CUDA_VISIBLE_DEVICES": ""}  # what is compared bit for bit needs the CPU


def survivors(processes: list[psutil.Process], seconds: float) -> list[str]:
    """Command lines of those that still run after so many seconds."""
    end = time.monotonic() + seconds
    while (running := list(_running(processes))) and time.monotonic() < end:
        time.sleep(0.1)
    return running


def _running(processes: list[psutil.Process]) -> Iterator[str]:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                yield " ".join(process.cmdline())


def leaves(section: Mapping[str, Any], prefix: str) -> list[str]:
    """Dotted names of all parameters below a section."""
    return list(flatten(section, f"{prefix}."))
