"""Kills at random moments for as long as asked: does training always end as if nobody had killed it?

    python tests/soak.py --minutes 60

Small trainings run by `dvc repro`, in the stage's process or on Ray with one or two workers. One process of a training
is killed at a time: DVC, the stage, a training worker, Ray's raylet or its head (gcs_server), or all at once. Most
kills follow an epoch by up to half a second; the others come while the training starts. After at most KILLS kills a
training runs to its end. The record, benchmarks/records/soak.json, has every kill with its moment, and per training the
epochs that were trained again although they had been reported, and whether its weights are those of an undisturbed one.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("benchmarks", "tests/pipelines", "tests")]

from records import measured_here, write_record  # noqa: E402
from tiny_project import POLL, Background, Project, survivors  # noqa: E402

EPOCHS = 40
FORMS: dict[str, dict[str, Any]] = {
    "in the stage": {"num_workers": 0},
    "one Ray worker": {"num_workers": 1},
    "two Ray workers": {"num_workers": 2},
}
SHARES = (1, 2, 2)
"""How often each is chosen: Ray has more processes that can be killed."""
VICTIMS = {
    "DVC": "bin/dvc",
    "the stage": "pipelines.train",
    "a Ray worker": "ray::RayTrainWorker",
    "the raylet": "raylet/raylet",
    "the head": "gcs_server",
    "all": "",
}
"""What is killed -> a part of its command line; all: the whole process group."""
KILLS = 12
"""Kills of one training at most."""
AFTER = 0.5
"""Most seconds between an epoch and the kill that follows it: about an epoch."""
EARLY = 0.25
"""Share of the kills that do not wait for an epoch."""
PACE = {
    POLL: "0.5",  # Ray takes a checkpoint as often, which makes an epoch long enough to be hit
    "RAY_worker_niceness": "0",  # instead of 15: more kills in an hour on a machine with other work
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",  # instead of 60: processes whose head was killed give up sooner
}
ENDS_WITHIN = 120.0
AGENTS = ("ray::RuntimeEnvAgent", "ray::DashboardAgent")
"""Processes of Ray that train nothing, and may end a minute after all others: awaited after the training."""
WEIGHTS = ("models/model.safetensors", "models/last.safetensors")


@dataclass(frozen=True)
class Kill:
    """A kill and its moment."""

    form: str
    victim: str
    second: float
    """Of the attempt, from the start of `dvc repro`."""
    reported: int
    """Epochs that had been reported, in this attempt or before."""


def main() -> int:
    """Kills for some minutes, and writes the record; returns 1 if anything was lost or differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    kills: list[Kill] = []
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        prepared = Project.make(Path(folder) / "prepared")
        prepared.set({"train": {"epochs": EPOCHS}})
        prepared.dvc("repro", "tune")
        whole = {form: train_undisturbed(prepared, form, Path(folder) / "whole") for form in FORMS}
        end = time.monotonic() + 60 * options.minutes
        while time.monotonic() < end:
            (form,) = rng.choices(list(FORMS), SHARES)
            found, ends = soak(prepared, form, Path(folder) / "run", rng)
            kills += found
            same = ends.pop("weights") == whole[form]
            runs.append({"form": form, **ends, "same_weights": same})
            print(f"{len(kills)} kills, {len(runs)} trainings: {runs[-1]}", flush=True)
    record = summary(kills, runs)
    command = f"python tests/soak.py --minutes {options.minutes:g} --seed {options.seed}"
    write_record("soak", {"command": command, **record, **measured_here()})
    print({name: value for name, value in record.items() if name not in ("each", "trainings")})
    return int(record["lost_epochs"] > 0 or record["different_weights"] > 0)


def copy_of(prepared: Project, form: str, root: Path) -> Project:
    """A project in which nothing is trained."""
    shutil.rmtree(root, ignore_errors=True)
    project = prepared.copy(root)
    project.set({"ray": {**FORMS[form], "max_failures": 10}})
    return project


def train_undisturbed(prepared: Project, form: str, root: Path) -> list[str]:
    """Hashes of the weights that a training ends with."""
    project = copy_of(prepared, form, root)
    project.dvc("repro", "train", **PACE)
    return project.sha256(*WEIGHTS)


def soak(prepared: Project, form: str, root: Path, rng: random.Random) -> tuple[list[Kill], dict[str, Any]]:
    """One training: its kills, and how it ended."""
    project = copy_of(prepared, form, root)
    kills: list[Kill] = []
    families: set[psutil.Process] = set()
    planned = rng.randint(1, KILLS)
    reported = lost = unlocked = 0
    while len(kills) < planned:
        unlocked += unlock(project)
        attempt = project.start_dvc("repro", "train", **PACE)
        struck, family = strikes(attempt, form, reported, planned - len(kills), rng)
        kills += struck
        families |= family
        epochs = epochs_of(attempt.text)
        lost += again(reported, epochs)
        reported = max([reported, *epochs])
        if not struck:  # it ran to its end
            break
    unlocked += unlock(project)
    project.dvc("repro", "train", **PACE)
    if left := survivors(list(families), ENDS_WITHIN):
        raise AssertionError(f"after the end: {left}")
    history = [row["epoch"] for row in project.read_json("run.json")["history"]]
    assert history == list(range(1, EPOCHS + 1)), history
    ends = {"kills": len(kills), "lost_epochs": lost, "unlocked": unlocked, "weights": project.sha256(*WEIGHTS)}
    return kills, ends


def strikes(
    attempt: Background, form: str, reported: int, most: int, rng: random.Random
) -> tuple[list[Kill], set[psutil.Process]]:
    """Kills in one `dvc repro` until it ends, and all its processes.

    After a Ray worker was killed Ray starts another in the same attempt; every other kill is the last.
    """
    started = time.monotonic()
    kills: list[Kill] = []
    family: set[psutil.Process] = set()
    while len(kills) < most:
        await_moment(attempt, most_reported(attempt, reported), rng)
        if attempt.process.poll() is not None:
            break
        present = attempt.family()
        family.update(present)
        before = most_reported(attempt, reported)
        victim = strike(attempt, present, rng)
        kills.append(Kill(form, victim, round(time.monotonic() - started, 2), before))
        if victim != "a Ray worker":
            break
    attempt.process.wait(ENDS_WITHIN)
    if left := survivors([process for process in family if not command(process).startswith(AGENTS)], ENDS_WITHIN):
        raise AssertionError(f"after {kills[-1:]}: {left}")
    return kills, family


def await_moment(attempt: Background, reported: int, rng: random.Random) -> None:
    """Waits for the moment of a kill, or for the end.

    Moments by the clock alone would all be before the first epoch on a busy machine.
    """
    if rng.random() < EARLY:
        time.sleep(rng.uniform(0, 12))
        return
    epoch = min(reported + rng.randint(1, 4), EPOCHS)
    while most_reported(attempt, 0) < epoch and attempt.process.poll() is None:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, AFTER))


def unlock(project: Project) -> bool:
    """Removes DVC's file of locks if it is empty, as `make repro` does; returns whether it was.

    DVC rewrites the file in place, and one that was killed in between would refuse all work for good.
    """
    path = project.root / ".dvc/tmp/rwlock"
    if not path.exists() or path.stat().st_size:
        return False
    path.unlink()
    return True


def strike(attempt: Background, family: list[psutil.Process], rng: random.Random) -> str:
    """Kills one of the processes, or all; returns what it was."""
    present = {name: [p for p in family if part in command(p)] for name, part in VICTIMS.items()}
    victim = rng.choice([name for name, processes in present.items() if processes])
    if victim == "all":
        attempt.kill(group=True)
        for process in family:
            if process.is_running():
                process.kill()
    else:
        rng.choice(present[victim]).kill()
    return victim


def command(process: psutil.Process) -> str:
    """Its command line; empty if it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def epochs_of(printed: str) -> list[int]:
    """Numbers of the epochs that an attempt reported, in their order."""
    return [int(number) for number in re.findall(rf"epoch +(\d+)/{EPOCHS}  loss", printed)]


def most_reported(attempt: Background, before: int) -> int:
    """The last epoch that it or an earlier one reported."""
    return max([before, *epochs_of(attempt.text)])


def again(reported: int, epochs: list[int]) -> int:
    """How many epochs were reported before, or in `epochs` themselves, and were trained again."""
    return sum(number <= most for number, most in zip(epochs, running_most(reported, epochs), strict=True))


def running_most(first: int, epochs: list[int]) -> Iterator[int]:
    """The largest epoch before each."""
    for number in epochs:
        yield first
        first = max(first, number)


def summary(kills: list[Kill], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The record's figures."""
    return {
        "kills": len(kills),
        "of_rays_processes": sum(kill.victim in ("a Ray worker", "the raylet", "the head") for kill in kills),
        "by_victim": {name: sum(kill.victim == name for kill in kills) for name in VICTIMS},
        "lost_epochs": sum(run["lost_epochs"] for run in runs),
        "different_weights": sum(not run["same_weights"] for run in runs),
        "unlocked": sum(run["unlocked"] for run in runs),
        "trainings": runs,
        "each": [asdict(kill) for kill in kills],
    }


if __name__ == "__main__":
    raise SystemExit(main())
