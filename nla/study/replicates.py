"""Replicates: all methods of one condition with one seed, which share rows, label noise and machine.

Methods are compared within replicates, so one counts only if it is complete: each method has its record, all from one
kind of CPU. A condition is reported with MIN_SEEDS complete replicates or more, or as many as the grid asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nla.errors import DataError
from nla.study.manifest import Entry
from nla.study.record import Record

MIN_SEEDS = 3


class Replicate(NamedTuple):
    """Names a replicate."""

    condition: str
    seed: int

    def __str__(self) -> str:
        return f"{self.condition}, seed {self.seed}"


class Complete(NamedTuple):
    """What can be reported."""

    entries: list[Entry]
    """The runs of complete replicates of the conditions that have enough of them, in their order."""
    left_out: list[str]
    """What is left out, and why; one sentence each."""


def complete(entries: Sequence[Entry], records: Mapping[str, Record]) -> Complete:
    """Chooses the replicates that can be reported.

    Args:
        entries: all runs of the study.
        records: name -> record, of those that exist.

    Raises:
        DataError: nothing is left.
    """
    replicates: dict[Replicate, list[Entry]] = {}
    for entry in entries:
        replicates.setdefault(Replicate(entry.condition, entry.seed), []).append(entry)
    problems = {replicate: _problem(own, records) for replicate, own in replicates.items()}
    left_out = [f"{replicate}: {problem}." for replicate, problem in problems.items() if problem]
    kept = set[str]()
    for condition in dict.fromkeys(replicate.condition for replicate in replicates):
        asked = [problem for replicate, problem in problems.items() if replicate.condition == condition]
        found, needed = asked.count(""), min(MIN_SEEDS, len(asked))
        if found >= needed:
            kept.add(condition)
        else:
            left_out.append(f"{condition}: {found} complete seeds of {len(asked)}, and {needed} are needed.")
    chosen = [each for each in entries if each.condition in kept and not problems[Replicate(each.condition, each.seed)]]
    if not chosen:
        first = f" ({left_out[0]})" if left_out else ""
        raise DataError(f"no condition has enough complete seeds{first}. Run `dvc repro` in the study's folder.")
    return Complete(chosen, left_out)


def _problem(entries: Sequence[Entry], records: Mapping[str, Record]) -> str:
    """Why the replicate of these runs is not complete; empty if it is."""
    if missing := [entry.method for entry in entries if entry.record not in records]:
        return f"no record of {', '.join(missing)}"
    kinds = dict.fromkeys(_cpu(records[entry.record]) for entry in entries)
    return f"records of {len(kinds)} kinds of CPU ({'; '.join(kinds)})" if len(kinds) > 1 else ""


def _cpu(record: Record) -> str:
    """The processor and its arithmetic, on both of which the time and the last bits of a result depend."""
    facts = record.facts
    return f"{facts['machine'].get('cpu', 'unknown')}, {facts['device_name']} in {facts['precision']}"
