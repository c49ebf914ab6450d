"""Cost of Ray: its start, its share of a step, two workers against two threads, and a model of many GPUs.

    python benchmarks/on_ray.py start      a small training by phase and by process
    python benchmarks/on_ray.py step       one worker on Ray Train against the bare loop, with two threads and with one
    python benchmarks/on_ray.py workers    two workers of one thread against one worker of two
    python benchmarks/on_ray.py tables     benchmarks/records/ -> docs/ray.md

Compared variants take turns, each time in a fresh process. Speeds are those of the epochs after the first one.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from records import RECORDS, ROOT, conditions, measured_here, read_record, write_record

TRAINING = Path(__file__).with_name("on_ray_training.py")
START = {"where": "ray", "workers": 1, "threads": 1, "images": 192, "epochs": 3}
STEADY = {"images": 1536, "epochs": 5}
CORES = {2: "Two threads, one on each core", 1: "One thread, with a core left free"}
"""Number of threads -> how the training uses the machine."""
ROUNDS = {"start": 3, "steady": 5}
PHASES = ("imports", "Ray starts", "up to the first step", "training", "up to the result", "Ray ends")
KINDS = {
    "driver": "on_ray_training",
    "worker": "ray::RayTrainWorker",
    "controller": "ray::TrainController",
    "barrier of the workers": "ray::SynchronizationActor",
    "helpers of Ray Train": "PlacementGroupCleaner|DatasetManager|AutoscalingCoordinator",
    "agents of the node": "DashboardAgent|RuntimeEnvAgent|dashboard/agent.py|runtime_env/agent",
    "dashboard": "dashboard.py|ray-dashboard|multiprocessing",
    "monitors": "monitor.py",
    "raylet and gcs": "raylet/raylet|gcs/gcs_server",
    "idle": "ray::IDLE|default_worker.py",
}
"""Kind of process -> pattern of its command line; the first match counts."""
PAGE = ROOT / "docs/ray.md"


def main(what: str) -> None:
    """Measures, or writes the page."""
    if what == "tables":
        PAGE.write_text(page())
    elif what == "start":
        rounds = [watched(START) for _ in range(ROUNDS["start"])]
        write_record("ray-start", {"training": START, "rounds": rounds, **measured_here()})
    elif what == "step":
        sides = {
            f"{where} {n}": {"where": where, "workers": 1, "threads": n} for n in CORES for where in ("bare", "ray")
        }
        write_record("ray-step", steady(sides))
    else:
        sides = {"threads": {"workers": 1, "threads": 2}, "workers": {"workers": 2, "threads": 1}}
        write_record("ray-workers", steady({name: {"where": "ray", **side} for name, side in sides.items()}))


def page() -> str:
    """docs/ray.md."""
    return "\n".join(["# What Ray costs", "", INTRODUCTION, *section()]) + "\n"


def steady(sides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Images per second of each side, in turns."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for i in range(ROUNDS["steady"]):
        for name in list(sides)[:: -1 if i % 2 else 1]:
            rounds[name].append(watched({**STEADY, **sides[name]})["told"])
    return {"sides": sides, "training": STEADY, "rounds": rounds, **measured_here()}


def watched(training: Mapping[str, Any]) -> dict[str, Any]:
    """Output of a training, with its wall seconds, and the CPU seconds of all processes by kind."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY")}
    began = time.time()
    with tempfile.TemporaryDirectory() as storage:
        process = subprocess.Popen(
            [sys.executable, TRAINING, json.dumps({**training, "storage": storage, "began": began})],
            cwd=ROOT,  # workers search it first
            env=environment | {"PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0"},  # 15 by default
            stdout=subprocess.PIPE,
            text=True,
        )
        used = cpu_seconds(process)
        wall = time.time() - began
        assert process.stdout is not None and process.returncode == 0
        told = json.loads(process.stdout.read().splitlines()[-1])
    return {"told": told, "wall": wall, "cpu": used}


def cpu_seconds(process: subprocess.Popen[str]) -> dict[str, float]:
    """CPU seconds of a process and all its descendants by kind, missing at most the last tenth of a second of each."""
    seen: dict[int, tuple[str, float]] = {}
    first = psutil.Process(process.pid)
    while process.poll() is None:
        for member in [first, *first.children(recursive=True)]:
            try:
                times, command = member.cpu_times(), " ".join(member.cmdline())
            except psutil.Error:
                continue
            if command:
                seen[member.pid] = (command, times.user + times.system)
        time.sleep(0.1)
    found: Counter[str] = Counter()
    for command, seconds in seen.values():
        found[next((kind for kind, pattern in KINDS.items() if re.search(pattern, command)), "other")] += seconds
    return dict(found)


@dataclass(frozen=True)
class Scaling:
    """A model of many GPUs, not a measurement: each has its own batch, and gradients are averaged once per step.

    A ring all-reduce sends 2 (n - 1) / n of the gradients' bytes through the slowest link in 2 (n - 1) rounds
    (Patarasuk and Yuan, 2009). DDP sends finished gradients while the others are still computed: all but the last
    bucket can overlap with the backward pass. Not modelled: data loading, stragglers, BatchNorm's buffers.
    """

    gradient_bytes: float
    bucket_bytes: float = 25 * 2**20  # DDP's default
    backward_share: float = 2 / 3  # of a step: two matrix products for each one of the forward pass
    latency: float = 10e-6  # seconds per round; assumed

    def all_reduce(self, n: int, bandwidth: float, size: float) -> float:
        """Seconds to reduce `size` bytes among `n` at `bandwidth` bytes per second."""
        return 2 * (n - 1) / n * size / bandwidth + 2 * (n - 1) * self.latency

    def efficiency(self, n: int, bandwidth: float, step: float, *, overlapped: bool) -> float:
        """Speed of `n` GPUs as a fraction of n times that of one; `step` is one GPU's seconds per step."""
        whole = self.all_reduce(n, bandwidth, self.gradient_bytes)
        if not overlapped:
            return step / (step + whole)
        last = min(whole, self.all_reduce(n, bandwidth, min(self.bucket_bytes, self.gradient_bytes)))
        return step / (step + max(last, whole - self.backward_share * step))


MODEL = {
    "parameters": 11_171_784,  # resnet18 of width 64, stem stride2, on grey images of 8 classes
    "steps": (0.005, 0.020, 0.080),  # seconds of one GPU; assumed
    "links": {"NVLink, 150 GB/s": 150e9, "InfiniBand, 12 GB/s": 12e9, "Ethernet, 1.1 GB/s": 1.1e9},  # assumed
    "gpus": (8, 64),
}
"""All inputs of the model."""


def section() -> list[str]:
    """Markdown of everything that has records, and of the model."""
    parts = {"ray-start": _start, "ray-step": _step, "ray-workers": _workers}
    lines = [
        line
        for name, write in parts.items()
        if (RECORDS / f"{name}.json").exists()
        for line in write(read_record(name))
    ]
    return [*lines, *_model()]


def _start(record: Mapping[str, Any]) -> list[str]:
    rounds = record["rounds"]
    phases = {phase: [r["told"]["phases"][phase] for r in rounds] for phase in PHASES}
    used = {kind: [r["cpu"].get(kind, 0.0) for r in rounds] for kind in (*KINDS, "other")}
    return [
        "",
        "## A small training, from start to end",
        "",
        START_TEXT,
        "",
        *_medians("seconds", phases | {"**wall**": [r["wall"] for r in rounds]}),
        "",
        *_medians("CPU seconds", used | {"**all**": [sum(r["cpu"].values()) for r in rounds]}),
        "",
        f"`python benchmarks/on_ray.py start`: medians of n = {len(rounds)}; {_made(record)}",
    ]


def _medians(what: str, values: Mapping[str, Sequence[float]]) -> list[str]:
    """Table of the medians, without rows that are all zero."""
    rows = [f"| {name} | {statistics.median(told):.1f} |" for name, told in values.items() if any(told)]
    return [f"| | {what} |", "|---|---|", *rows]


def _step(record: Mapping[str, Any]) -> list[str]:
    lines = ["", "## One worker on Ray Train against the bare loop", "", STEP_TEXT]
    for n, where in CORES.items():
        names = {f"bare {n}": "the bare loop", f"ray {n}": "one worker on Ray Train"}
        lines += ["", f"{where}:", "", *_compared(record, *names, names)]
    return [*lines, "", f"`python benchmarks/on_ray.py step`: {_made(record)}"]


def _workers(record: Mapping[str, Any]) -> list[str]:
    return [
        "",
        "## Two workers against two threads",
        "",
        WORKERS_TEXT,
        "",
        *_compared(
            record, "threads", "workers", {"threads": "1 worker, 2 threads", "workers": "2 workers, 1 thread each"}
        ),
        "",
        f"`python benchmarks/on_ray.py workers`: {_made(record)}",
    ]


def _made(record: Mapping[str, Any]) -> str:
    return f"commit {record['commit']}; {conditions(record)}"


def _compared(record: Mapping[str, Any], base: str, other: str, names: Mapping[str, str]) -> list[str]:
    rounds, training = record["rounds"], record["training"]
    lines = [
        "| | images/s in steps | images/s overall | ratio in steps | ratio overall |",
        "|---|---|---|---|---|",
    ]
    measures = {"in steps": speeds_in_steps, "overall": speed_overall}
    ratios = {
        name: [speed(b) / speed(a) for a, b in zip(rounds[base], rounds[other], strict=True)]
        for name, speed in measures.items()
    }
    for side in (base, other):
        cells = [f"{statistics.median(map(speed, rounds[side])):.0f}" for speed in measures.values()]
        of = [
            f"{statistics.median(r):.3f} ({min(r):.3f} to {max(r):.3f})" if side == other else "1"
            for r in ratios.values()
        ]
        lines += [f"| {names[side]} | {' | '.join([*cells, *of])} |"]
    return [
        *lines,
        "",
        f"Medians of n = {len(rounds[base])} rounds of {training['epochs'] - 1} epochs of {training['images']} images; "
        "ratios of neighbouring runs.",
    ]


def speeds_in_steps(told: Mapping[str, Any]) -> float:
    """Images per second of the training steps; the median of the epochs after the first."""
    return statistics.median(row["images_per_second"] for row in told["rows"][1:])


def speed_overall(told: Mapping[str, Any]) -> float:
    """Images per second from the end of the first epoch to that of the last, with validation and checkpoints."""
    times = told["epoch_ends"]
    return (len(times) - 1) * told["images"] / (times[-1] - times[0])


def _model() -> list[str]:
    model = Scaling(4.0 * MODEL["parameters"])
    lines = [
        "",
        "## Many GPUs: a model, not a measurement",
        "",
        MODEL_TEXT.format(**MODEL, mb=model.gradient_bytes / 1e6),
    ]
    head = "| step of one GPU | link | " + " | ".join(
        f"{n} GPUs, {how}" for n in MODEL["gpus"] for how in ("after backward", "during backward")
    )
    lines += ["", f"{head} |", "|---" * (2 + 2 * len(MODEL["gpus"])) + "|"]
    for step in MODEL["steps"]:
        for link, bandwidth in MODEL["links"].items():
            cells = [
                f"{model.efficiency(n, bandwidth, step, overlapped=overlapped):.0%}"
                for n in MODEL["gpus"]
                for overlapped in (False, True)
            ]
            lines += [f"| {1000 * step:.0f} ms | {link} | {' | '.join(cells)} |"]
    return lines


INTRODUCTION = "Generated by `python benchmarks/on_ray.py tables` from `benchmarks/records/ray-*.json`."
START_TEXT = """ResNet-18 of width 16, three epochs of three steps: almost all of the time is startup and shutdown. A
Ray that NLA starts itself has no dashboard and no monitors, and its Ray Train has no cleaner, no data set manager and
no autoscaling coordinator: training uses none of them.

Keeping Ray alive between the stages of one `dvc repro` would save one startup and shutdown, and only after a search, at
the cost of a process that outlives its stage: not worth it."""
STEP_TEXT = """ResNet-18 of width 16, random noise of 48 px, batches of 64, loss and augmentation of params.yaml. *In
steps* covers loading, augmentation, forward, backward and optimiser; *overall* also includes validation on 256 images
and the checkpoint of each epoch. On Ray, the end of an epoch is known to within a quarter of a second. Ray's processes,
and its threads in the worker, are never completely idle: they wake up for a moment some hundreds of times a second. If
training uses every core, each wake-up stalls all of its threads, as they wait for each other; with a free core, few
do."""
WORKERS_TEXT = """As above, on two cores: two processes that average their gradients by gloo, against one with two
threads. The global batch size is 64 in both."""
MODEL_TEXT = """ResNet-18 of width 64: {parameters:,} parameters, {mb:.1f} MB of gradients per step. The table shows the
speed of n GPUs as a fraction of n times that of one, each with its own batch, if a ring averages the gradients after
the backward pass, or during it. The ring takes 2 (n - 1) / n bytes / bandwidth + 2 (n - 1) 10 us; during the backward
pass, which is two thirds of a step, all but the last bucket of 25 MB can be hidden. Step times, links and latency are
assumptions; nothing was run on GPUs; loading, stragglers and checkpoints are not included (`Scaling` in
benchmarks/on_ray.py)."""

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("start", "step", "workers", "tables"):
        sys.exit(__doc__)
    main(sys.argv[1])
