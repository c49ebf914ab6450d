"""Checks that the training loop runs near its limit; it compares a ratio, so that any machine can run it.

    python benchmarks/check.py

It exits with 1 if the loop at 48 px has less than REQUIRED of the limit's speed. Rounds are added until the 99 %
interval of their median excludes REQUIRED, or there are MOST of them; then the median itself decides. Rounds disturbed
by other processes do not count; with fewer than FEWEST calm ones there is no verdict.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from interleaved import Measurement, compared, interleave, summary
from scipy.stats import binom
from step import SETTINGS, Limit, end_to_end, job_of, samples_of

SETTING = SETTINGS["48"]
REQUIRED = 0.90
"""Fraction of the limit's speed; the record of `benchmarks/step.py 48` has about .95."""
STEPS = 8
FEWEST, MOST = 9, 45
"""Rounds; each takes about two seconds."""
CONFIDENCE = 0.99


def main() -> int:
    """Prints the result; returns the exit code."""
    job, samples = job_of(SETTING), samples_of(SETTING)
    limit = Limit(job, samples)
    things = {"limit": lambda: limit.seconds(STEPS), "end_to_end": lambda: end_to_end(job, samples, STEPS)}
    limit.seconds(1), end_to_end(job, samples, 1)  # caches, primitives, threads
    found = compared(until_clear(things), "limit", "end_to_end")
    if found["calm_rounds"] < FEWEST:
        print(f"{summary(found)} of the limit: other processes disturb this too much for a verdict")
        return 0
    print(f"{summary(found)} of the limit; at least {REQUIRED:.2f} is required")
    return int(found["ratio"] < REQUIRED)


def until_clear(things: Mapping[str, Callable[[], float]]) -> dict[str, list[Measurement]]:
    """The turns of as many rounds as a verdict needs."""
    turns = interleave(things, FEWEST)
    while len(turns["limit"]) < MOST and not is_clear(compared(turns, "limit", "end_to_end")["calm_ratios"]):
        for name, more in interleave(things, 2).items():  # two: in either order
            turns[name] += more
    return turns


def is_clear(ratios: Sequence[float]) -> bool:
    """Whether the interval of the median, between two order statistics, excludes REQUIRED; it needs FEWEST ratios."""
    if len(ratios) < FEWEST:
        return False
    beyond = int(binom.ppf((1 - CONFIDENCE) / 2, len(ratios), 0.5))  # ratios outside of the interval on each side
    inside = sorted(ratios)[beyond : len(ratios) - beyond]
    return not inside[0] <= REQUIRED <= inside[-1]


if __name__ == "__main__":
    sys.exit(main())
