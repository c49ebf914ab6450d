"""Whether the training loop still runs near its limit: a check of a ratio, so that any machine may run it.

    python benchmarks/check.py

It ends with 1 where the ratio at 48 px is far below that of the record of `benchmarks/step.py 48`. One round spreads by
s in the record, and by s sqrt(its steps / STEPS) at most in the shorter turns here; the median of n rounds by
sqrt(pi / 2) / sqrt(n) of that. What is SIGMAS of those below the record is no chance. A round beside other work says
nothing, and with too few calm ones nothing is said at all.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from records import read_record
from step import SETTINGS, Limit, end_to_end, job_of, samples_of
from turns import compared, in_turns, told

SETTING, RECORD = SETTINGS["48"], "step-48"
STEPS, ROUNDS = 8, 5
FEWEST = 3
"""Calm rounds that are worth a judgement."""
SIGMAS = 4.0


def main() -> int:
    """Prints what is found; the exit code."""
    known = read_record(RECORD)
    job, samples = job_of(SETTING, precision=known["precision"]), samples_of(SETTING)
    limit = Limit(job, samples)
    things = {"limit": lambda: limit.seconds(STEPS), "end_to_end": lambda: end_to_end(job, samples, STEPS)}
    limit.seconds(1), end_to_end(job, samples, 1)
    now = compared(in_turns(things, ROUNDS), "limit", "end_to_end")
    if now["calm_rounds"] < FEWEST:
        print(f"{told(now)} of the limit: too much else is running here to judge that")
        return 0
    wanted = least(known, now["calm_rounds"])
    print(f"{told(now)} of the limit; the record has {known['ratio']:.3f}, and at least {wanted:.3f} is wanted")
    return int(now["ratio"] < wanted)


def least(known: dict[str, Any], rounds: int) -> float:
    """The smallest median of `rounds` ratios that may still be chance."""
    of_a_round = known["std"] * math.sqrt(known["steps"] / STEPS)
    return known["ratio"] - SIGMAS * math.sqrt(math.pi / 2) * of_a_round / math.sqrt(rounds)


if __name__ == "__main__":
    sys.exit(main())
