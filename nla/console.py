"""What a person sees: lines, a bar with rate and time left, and errors without a traceback."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from nla.errors import NLAError
from nla.paths import project_root, workspace
from nla.quiet import hush
from nla.workflow import end_with_dvc

LOGS = ".logs"
CONSOLE_LEVELS = {
    "alembic": None,
    "mlflow": None,
    "nla": logging.WARNING,
    "ray": logging.ERROR,
    "ray.train": logging.ERROR,
    "ray.tune": logging.CRITICAL,  # it writes a traceback for each trial that fails, and we a line
}
"""What of each library a person sees; None leaves what MLFLOW_LOGGING_LEVEL says."""

console = Console(highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """One line for a person."""
    console.print(line, markup=False)


def log_file() -> Path:
    """Where this stage's full log is. In the project, as DVC throws the copies away that experiments run in.

    Such a copy has a folder for its own, named as the experiment: the project, and other copies, may run beside it.
    """
    logs = project_root() / LOGS
    if workspace() != project_root():
        logs /= os.environ.get("DVC_EXP_NAME") or workspace().name
    return logs / f"{Path(sys.argv[0]).stem}.log"


def run_stage(main: Callable[[], None]) -> None:
    """Runs a DVC stage: ends with DVC, and turns an NLAError or OSError into one message and exit code 1."""
    hush()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    end_with_dvc()
    try:
        _keep_logs(log_file())
        main()
    except NLAError as error:
        _fail(str(error))
    except OSError as error:
        reason = error.strerror or str(error)
        _fail(reason if error.filename is None else f"{error.filename}: {reason}")
    except KeyboardInterrupt:
        print("interrupted: `dvc repro` goes on from here", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Exception:
        print(f"a defect of ours; the full log: {log_file()}", file=sys.stderr)
        raise


def _keep_logs(path: Path) -> None:
    """All that the libraries say goes into a new `path`; on the console they say no more than before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(path, "w", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name, level in CONSOLE_LEVELS.items():
        logger = logging.getLogger(name)
        shown = logger.handlers or [logging.StreamHandler()]
        for handler in shown:
            handler.setLevel(level or logger.getEffectiveLevel())
        logger.handlers = [*shown, file]
        logger.setLevel(logging.DEBUG)
        logger.propagate = "." not in name  # ray.init adds a handler of its own to "ray", and sets its level again


def _fail(message: str) -> NoReturn:
    """Ends the stage with `message` and the place of its log, which gets the traceback."""
    logging.getLogger(__name__).debug("the stage failed", exc_info=True)
    console.file.flush()
    print(f"error: {message}", file=sys.stderr)
    if log_file().is_file():
        print(f"the full log: {log_file()}", file=sys.stderr)
    sys.exit(1)


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
