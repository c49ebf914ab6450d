"""Runs a stage of the DAG as a process: logging, termination with DVC, and errors without a traceback."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from nla.console import complain, console
from nla.errors import is_explained, user_message
from nla.masking import MaskedFormatter, mask_streams
from nla.signals import end_at_once, ended_in_order
from nla.telemetry import disable_telemetry
from nla.text import printable
from nla.workflow.dvc_process import end_with_dvc
from nla.workflow.paths import project_root, workspace

LOGS = ".logs"
CONSOLE_LEVELS = {
    "alembic": None,
    "mlflow": None,
    "mlflow.store.db": logging.CRITICAL,  # a traceback for each error of a database, which this package tells in a line
    "nla": logging.WARNING,
    "ray": logging.ERROR,
    "ray.train": logging.ERROR,
    "ray.tune": logging.CRITICAL,  # it logs a traceback for each failed trial, for which this package prints a line
}
"""Console log level of each library; None keeps what MLFLOW_LOGGING_LEVEL sets."""


class _Printable(logging.Formatter):
    """Escapes control characters, which names of files and classes can contain."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def log_file() -> Path:
    """Path of this stage's full log.

    It is in the project, because DVC deletes the copies in which experiments run. Each copy has a log folder named
    after its experiment, since copies and the project can run at the same time.
    """
    logs = project_root() / LOGS
    if workspace() != project_root():
        logs /= os.environ.get("DVC_EXP_NAME") or workspace().name
    return logs / f"{Path(sys.argv[0]).stem}.log"


def run_stage(main: Callable[[], None]) -> None:
    """Runs the `main` of a stage, which ends when DVC does. Errors that are no bugs become one message and exit code 1,
    a signal one message and exit code 128 + its number.

    Passwords and keys are masked in what it prints and logs.
    """
    disable_telemetry()
    mask_streams()
    end_at_once()
    end_with_dvc()
    try:
        with ended_in_order(in_stage=True) as ending:
            _log_to_file(log_file())
            main()
    except KeyboardInterrupt:
        complain(ending.line)
        _leave(ending.code)
    except Exception as error:
        if is_explained(error):
            _fail(user_message(error))
        complain(f"internal error (a bug); full log: {log_file()}")
        raise


def _leave(code: int) -> NoReturn:
    """Exits without what libraries do at the end: Ray waits ten seconds for processes that have ended already."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def _log_to_file(path: Path) -> None:
    """Logs all messages of the libraries to a new file `path` too; what they print on the console stays the same."""
    logging.raiseExceptions = False  # with a full disk, each message would print a traceback
    path.parent.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(path, "w", encoding="utf-8")
    file.setFormatter(MaskedFormatter(_Printable("%(asctime)s %(levelname)s %(name)s: %(message)s")))
    for name, level in CONSOLE_LEVELS.items():
        logger = logging.getLogger(name)
        shown = logger.handlers or [_console_handler()]
        for handler in shown:
            handler.setLevel(level or logger.getEffectiveLevel())
            handler.setFormatter(MaskedFormatter(handler.formatter))  # a handler may hold the stream that was before
        logger.handlers = [*shown, file]
        logger.setLevel(logging.DEBUG)
        logger.propagate = "." not in name  # ray.init adds a handler to "ray", and resets its level


def _console_handler() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable())
    return handler


def _fail(message: str) -> NoReturn:
    """Exits with `message` and the path of the log, to which the traceback goes."""
    logging.getLogger(__name__).debug("the stage failed", exc_info=True)
    console.file.flush()
    complain(f"error: {message}")
    if log_file().is_file():
        complain(f"full log: {log_file()}")
    sys.exit(1)
