"""Fraction of the processor's peak that a step reaches, where its time goes, and what changes that.

    python benchmarks/compute.py networks      the networks and resolutions of benchmarks/step.py
    python benchmarks/compute.py small         what raises or lowers the fraction at 48 px
    python benchmarks/compute.py compiled      torch.compile at 48 px; it needs a C++ compiler
    python benchmarks/compute.py profile       shares of a step, by kind of operation

Operations are counted by torch.utils.flop_counter: convolutions and matrix products, forward and backward, a
multiplication and an addition as two. The peak is a matrix product of 2048 x 2048 in the same precision with the same
threads, measured in turns with the steps.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from interleaved import Measurement, compared, interleave
from records import measured_here, write_record
from step import SETTINGS, Limit, Setting, job_of, precision, samples_of
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

SIDE, PRODUCTS = 2048, 12
ROUNDS = 5
TURN = 2.5e11
"""Operations per turn, about two seconds."""
BASE = SETTINGS["48"]
NETWORKS = {f"{name} px": (setting, {}) for name, setting in SETTINGS.items()}
SMALL: dict[str, tuple[Setting, dict[str, Any]]] = {
    "as in params.yaml": (BASE, {}),
    "batch 32": (replace(BASE, batch_size=32), {}),
    "batch 128": (replace(BASE, batch_size=128), {}),
    "batch 256": (replace(BASE, batch_size=256), {}),
    "width 24": (replace(BASE, model={"width": 24}), {}),
    "width 32": (replace(BASE, model={"width": 32}), {}),
    "width 64": (replace(BASE, model={"width": 64}), {}),
    "stem stride1": (replace(BASE, model={"stem": "stride1"}), {}),
    "stem imagenet": (replace(BASE, model={"stem": "imagenet"}), {}),
    "channels_last false": (BASE, {"channels_last": False}),
}
COMPILED: dict[str, tuple[Setting, dict[str, Any]]] = {
    "as in params.yaml": (BASE, {}),
    "compile": (BASE, {"compile": True}),
}
KINDS = {
    "convolution": ("convolution",),
    "BatchNorm": ("batch_norm",),
    "ReLU and additions": ("threshold", "relu", "aten::add", "clamp"),
    "optimiser": ("_fused_adam",),
}
"""Kind -> substrings of operation names."""


def main(what: str) -> None:
    """Measures, and writes the record."""
    if what == "profile":
        found = {"shares": {name: shares(setting) for name, setting in SETTINGS.items()}}
    else:
        found = {"rows": efficiency({"networks": NETWORKS, "small": SMALL, "compiled": COMPILED}[what])}
    print(json.dumps(found, indent=1))
    as_measured = {"threads": torch.get_num_threads(), "precision": precision()}
    record = {"command": f"python benchmarks/compute.py {what}", **as_measured, **found}
    write_record(f"compute-{what}", record | measured_here())


def efficiency(cases: dict[str, tuple[Setting, dict[str, Any]]]) -> dict[str, Any]:
    """Samples per second and fraction of the peak, for each case."""
    operations = {name: count(*case) for name, case in cases.items()}
    things = {name: _timed(_limit(*case), operations[name]) for name, case in cases.items()}
    turns = interleave({"peak": peak} | things, ROUNDS)
    rows = {}
    for name, (setting, _) in cases.items():
        reached = [Measurement(operations[name] / turn.value, turn.others) for turn in turns[name]]
        rows[name] = {
            "gflop_a_sample": operations[name] / setting.batch_size / 1e9,
            "samples_per_second": setting.batch_size / statistics.median(turn.value for turn in turns[name]),
            "of_peak": compared({"reached": reached, "peak": turns["peak"]}, "reached", "peak"),
        }
    return rows


def peak() -> float:
    """Operations per second of a matrix product."""
    a, b = torch.randn(2, SIDE, SIDE).to(torch.bfloat16 if precision() == "bf16" else torch.float32)
    a @ b
    started = time.perf_counter()
    for _ in range(PRODUCTS):
        a @ b
    return 2 * SIDE**3 * PRODUCTS / (time.perf_counter() - started)


def count(setting: Setting, changes: dict[str, Any]) -> int:
    """Operations of a step on both views."""
    limit = Limit(job_of(setting, **changes | {"compile": False}), samples_of(setting, setting.batch_size))
    with FlopCounterMode(display=False) as counter:
        limit.step()
    return counter.get_total_flops()


def shares(setting: Setting) -> dict[str, float]:
    """Fractions of a step's time by kind of operation; convolutions also by shape."""
    limit = _limit(setting, {})
    limit.seconds(2)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as watched:
        for _ in range(5):
            limit.step()
    spent: Counter[str] = Counter()
    for event in watched.key_averages(group_by_input_shape=True):
        kind = next((k for k, parts in KINDS.items() if any(part in event.key for part in parts)), "other")
        spent[kind] += event.self_cpu_time_total
        if kind == "convolution":
            spent[f"  {event.key} {event.input_shapes[:2]}"] += event.self_cpu_time_total
    total = sum(time for kind, time in spent.items() if not kind.startswith(" "))
    kinds = {kind: time / total for kind, time in spent.items() if not kind.startswith(" ")}
    shapes = Counter({kind: time for kind, time in spent.items() if kind.startswith(" ")})
    return kinds | {kind: time / total for kind, time in shapes.most_common(10)}


def _limit(setting: Setting, changes: dict[str, Any]) -> Limit:
    limit = Limit(job_of(setting, **changes), samples_of(setting, setting.batch_size))
    limit.seconds(1)
    return limit


def _timed(limit: Limit, operations: int) -> Callable[[], float]:
    """Returns a function that measures the seconds per step, over about TURN operations."""
    return lambda: limit.seconds(max(1, round(TURN / operations)))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("networks", "small", "compiled", "profile"):
        sys.exit(__doc__)
    main(sys.argv[1])
