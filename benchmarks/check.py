"""Checks that the training loop still runs near its limit; it compares a ratio, so that any machine can run it.

    python benchmarks/check.py

It exits with 1 if the ratio at 48 px is far below that of the record of `benchmarks/step.py 48`. A round of the record
has the standard deviation s, and a shorter turn here at most s sqrt(the record's steps / STEPS); the median of n rounds
has sqrt(pi / 2) / sqrt(n) of that. More than SIGMAS of those below the record is not chance. Rounds disturbed by other
processes do not count, and with too few calm ones there is no verdict.
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
"""Minimum number of calm rounds for a verdict."""
SIGMAS = 4.0


def main() -> int:
    """Prints the result; returns the exit code."""
    known = read_record(RECORD)
    job, samples = job_of(SETTING, precision=known["precision"]), samples_of(SETTING)
    limit = Limit(job, samples)
    things = {"limit": lambda: limit.seconds(STEPS), "end_to_end": lambda: end_to_end(job, samples, STEPS)}
    limit.seconds(1), end_to_end(job, samples, 1)
    now = compared(in_turns(things, ROUNDS), "limit", "end_to_end")
    if now["calm_rounds"] < FEWEST:
        print(f"{told(now)} of the limit: other processes disturb this too much for a verdict")
        return 0
    wanted = least(known, now["calm_rounds"])
    print(f"{told(now)} of the limit; the record has {known['ratio']:.3f}, and at least {wanted:.3f} is required")
    return int(now["ratio"] < wanted)


def least(known: dict[str, Any], rounds: int) -> float:
    """The smallest median of `rounds` ratios that can still be chance."""
    of_a_round = known["std"] * math.sqrt(known["steps"] / STEPS)
    return known["ratio"] - SIGMAS * math.sqrt(math.pi / 2) * of_a_round / math.sqrt(rounds)


if __name__ == "__main__":
    sys.exit(main())
