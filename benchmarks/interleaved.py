"""Interleaved measurements of several variants in one process, so that disturbances affect all of them alike."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

CALM = 0.15
"""Cores that other processes can use in a calm round; an idle system uses about 0.03."""


@dataclass(frozen=True)
class Measurement:
    """Value of one measurement, and cores that other processes used meanwhile."""

    value: float
    others: float


def interleave(things: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[Measurement]]:
    """Measures each thing once per round, in reverse order in every second round."""
    turns: dict[str, list[Measurement]] = {name: [] for name in things}
    for i in range(rounds):
        for name in list(things)[:: -1 if i % 2 else 1]:
            turns[name].append(_measurement(things[name]))
    return turns


def compared(turns: Mapping[str, Sequence[Measurement]], above: str, below: str) -> dict[str, Any]:
    """Ratio above / below of every round, with median and spread over the calm rounds if there are at least two.

    For seconds, `above` is the baseline: 0.9 means 0.9 of its speed.
    """
    pairs = list(zip(turns[above], turns[below], strict=True))
    ratios = [a.value / b.value for a, b in pairs]
    is_calm = [max(a.others, b.others) < CALM for a, b in pairs]
    calm = [ratio for ratio, quiet in zip(ratios, is_calm, strict=True) if quiet]
    used = calm if len(calm) > 1 else ratios
    return {
        "ratio": statistics.median(used),
        "low": min(used),
        "high": max(used),
        "std": statistics.stdev(used) if len(used) > 1 else 0.0,
        "rounds": len(ratios),
        "calm_rounds": len(calm),
        "ratios": ratios,
        "calm_ratios": calm,
        "others": [max(a.others, b.others) for a, b in pairs],
        above: [a.value for a, _ in pairs],
        below: [b.value for _, b in pairs],
    }


def summary(result: Mapping[str, Any]) -> str:
    """The comparison in a few words, for the console."""
    calm = f"{result['calm_rounds']} of {result['rounds']} rounds calm"
    return f"{result['ratio']:.3f} ({result['low']:.3f} to {result['high']:.3f}; {calm})"


def _measurement(thing: Callable[[], float]) -> Measurement:
    busy, started = _others(), time.perf_counter()
    value = thing()
    return Measurement(value, max(0.0, (_others() - busy) / (time.perf_counter() - started)))


def _others() -> float:
    """Processor seconds since boot, without those of this process and its children."""
    all_of_it = psutil.cpu_times()
    idle = all_of_it.idle + getattr(all_of_it, "iowait", 0.0)
    guests = getattr(all_of_it, "guest", 0.0) + getattr(all_of_it, "guest_nice", 0.0)  # part of user and nice too
    mine = os.times()
    running = [_seconds(child) for child in psutil.Process().children(recursive=True)]
    ours = mine.user + mine.system + mine.children_user + mine.children_system + sum(running)
    return sum(all_of_it) - idle - guests - ours


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system
