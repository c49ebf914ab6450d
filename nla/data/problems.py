"""What is wrong with a row or file: collected, so that the user sees all problems at once, with files and lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nla.text import shown

SHOWN = 10
"""Problems that an error lists."""


@dataclass(frozen=True)
class Problem:
    """A bad line of a text file, or a bad file."""

    file: str
    line: int | None
    """Line number, counted from 1 as in an editor."""
    what: str

    def __str__(self) -> str:
        return shown(f"{self.file}{'' if self.line is None else f', line {self.line}'}: {self.what}")


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Problems by file and line."""
    return sorted(problems, key=lambda problem: (problem.file, problem.line or 0))


def first_lines(problems: Sequence[Problem]) -> list[str]:
    """The first SHOWN problems in order, as lines of an error, and how many more there are."""
    more = [f"  and {len(problems) - SHOWN:,} more"] if len(problems) > SHOWN else []
    return [*(f"  {problem}" for problem in in_order(problems)[:SHOWN]), *more]


def error_lines(problems: Sequence[Problem], listing: Path | None) -> list[str]:
    """Lines for an error message: all problems or, if there are many, the first SHOWN while `listing` gets all."""
    lines = [str(problem) for problem in in_order(problems)]
    if listing is None or len(lines) <= SHOWN:
        return [f"  {line}" for line in lines]
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return [
        *first_lines(problems)[:SHOWN],
        f"  and {len(lines) - SHOWN:,} more; all {len(lines):,} are listed in {listing}",
    ]
