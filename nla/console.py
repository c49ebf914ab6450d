"""What a person sees: lines, a bar with rate and time left, and errors without a traceback."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from nla.errors import NLAError
from nla.quiet import hush
from nla.workflow import end_with_dvc

LOG_EVERY = 10.0  # seconds between two lines where the output is no terminal

console = Console(highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """One line for a person."""
    console.print(line, markup=False)


def run_stage(main: Callable[[], None]) -> None:
    """Runs a DVC stage: ends with DVC, and turns an NLAError into one message and exit code 1."""
    hush()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    end_with_dvc()
    try:
        main()
    except NLAError as error:
        console.file.flush()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted: `dvc repro` goes on from here", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


class _Rate(ProgressColumn):
    """Units a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} {self.unit}/s")


@contextlib.contextmanager
def bar(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar; call what it gives with (done, total)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
