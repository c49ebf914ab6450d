"""A search as a person sees it: a table that refreshes, and a line for each trial that ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from rich.live import Live
from rich.table import Table

from nla.console import console, say
from nla.tuning.trials import row_score


class TableWatcher:
    """A watcher that draws."""

    def __init__(self, total: int, epochs: int, objective: str, live: Live) -> None:
        self.total, self.epochs, self.objective, self.live = total, epochs, objective, live
        self.began = time.monotonic()
        self.rows: dict[str, Mapping[str, float]] = {}
        self.best: dict[str, float] = {}
        self.running: set[str] = set()
        self.done = 0

    def started(self, trial: str, values: Mapping[str, Any]) -> None:
        """Adds a line."""
        self.running.add(trial)
        self._draw()

    def epoch(self, trial: str, row: Mapping[str, float]) -> None:
        """Shows the epoch."""
        self.rows[trial] = row
        self.best[trial] = max(self.best.get(trial, 0.0), row_score(row, self.objective))
        self._draw()

    def ended(self, trial: str) -> None:
        """Says what came of it."""
        self.running.discard(trial)
        self.done += 1
        leader = max(self.best, key=lambda name: self.best[name], default=trial)
        after = int(self.rows[trial]["epoch"]) if trial in self.rows else 0
        say(
            f"trial {self.done:3d}/{self.total}  {self.objective} {self.best.get(trial, 0.0):.2%} "
            f"after epoch {after} of {self.epochs}; best so far {self.best.get(leader, 0.0):.2%}; {self._left()}"
        )
        self._draw()

    def _left(self) -> str:
        if not self.done:
            return "time left unknown"
        minutes = (time.monotonic() - self.began) / self.done * max(0, self.total - self.done) / 60
        return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"

    def _draw(self) -> None:
        table = Table("running", "epoch", self.objective, title=f"{self.done} of {self.total} trials, {self._left()}")
        for trial in sorted(self.running):
            epoch = int(self.rows[trial]["epoch"]) if trial in self.rows else 0
            table.add_row(trial, f"{epoch}/{self.epochs}", f"{self.best.get(trial, 0.0):.2%}")
        self.live.update(table)


@contextlib.contextmanager
def trial_table(total: int, epochs: int, objective: str) -> Iterator[TableWatcher]:
    """A table over all trials; where nobody looks on, the lines alone."""
    with Live(console=console, refresh_per_second=2, transient=True) as live:
        yield TableWatcher(total, epochs, objective, live)
