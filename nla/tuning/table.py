"""Console output of a search: a live table, and a line for each trial that ends."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.live import Live
from rich.table import Table

from nla.console import console, say
from nla.tuning.trials import row_score
from nla.tuning.watch import History


class TableWatcher:
    """A watcher that draws the table."""

    def __init__(self, total: int, epochs: int, objective: str, budget: Callable[[], float], live: Live) -> None:
        self.total, self.epochs, self.objective, self.budget, self.live = total, epochs, objective, budget, live
        self.began = time.monotonic()
        self.rows: dict[str, Mapping[str, float]] = {}
        self.best: dict[str, float] = {}
        self.running: set[str] = set()
        self.done: set[str] = set()
        self.done_before = 0

    def known(self, trial: str, history: History) -> None:
        """Counts a trial of an earlier call."""
        self.done.add(trial)
        self.done_before += 1
        if history:
            self.rows[trial] = history[-1]
            self.best[trial] = max(row_score(row, self.objective) for row in history)
        self._draw()

    def started(self, trial: str, values: Mapping[str, Any]) -> None:
        """Adds a running trial."""
        self.running.add(trial)
        self.done.discard(trial)
        self._draw()

    def epoch(self, trial: str, row: Mapping[str, float]) -> None:
        """Shows the trial's last epoch."""
        self.rows[trial] = row
        self.best[trial] = max(self.best.get(trial, 0.0), row_score(row, self.objective))
        self._draw()

    def ended(self, trial: str) -> None:
        """Prints a line with the trial's result."""
        self.running.discard(trial)
        self.done.add(trial)
        leader = max(self.best, key=lambda name: self.best[name], default=trial)
        after = int(self.rows[trial]["epoch"]) if trial in self.rows else 0
        say(
            f"trial {len(self.done):3d}/{self._all}  {self.objective} {self.best.get(trial, 0.0):.2%} "
            f"after epoch {after} of {self.epochs}; best so far {self.best.get(leader, 0.0):.2%}; {self._left()}"
        )
        self._draw()

    @property
    def _all(self) -> int:
        """Number of trials; at least those already started, as an earlier call may have asked for more."""
        return max(self.total, len(self.done) + len(self.running))

    def _left(self) -> str:
        here = len(self.done) - self.done_before
        pace = (time.monotonic() - self.began) / here if here > 0 else math.inf
        waiting = self._all - len(self.done)
        minutes = min(pace * waiting if waiting else 0.0, self.budget()) / 60
        if minutes == math.inf:
            return "time left unknown"
        return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"

    def _draw(self) -> None:
        title = f"{len(self.done)} of {self._all} trials, {self._left()}"
        table = Table("running", "epoch", self.objective, title=title)
        for trial in sorted(self.running):
            epoch = int(self.rows[trial]["epoch"]) if trial in self.rows else 0
            table.add_row(trial, f"{epoch}/{self.epochs}", f"{self.best.get(trial, 0.0):.2%}")
        self.live.update(table)


@contextlib.contextmanager
def trial_table(
    total: int, epochs: int, objective: str, budget: Callable[[], float] = lambda: math.inf
) -> Iterator[TableWatcher]:
    """Shows a table of all trials; without a terminal, only the lines. `budget` returns the seconds left."""
    with Live(console=console, refresh_per_second=2, transient=True) as live:
        yield TableWatcher(total, epochs, objective, budget, live)
