"""Runs a stage of the DAG as a process: logging, termination with DVC, and errors without a traceback."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from nla.console import console
from nla.errors import NLAError, told
from nla.telemetry import disable_telemetry
from nla.workflow.dvc_process import end_with_dvc
from nla.workflow.paths import project_root, workspace

LOGS = ".logs"
CONSOLE_LEVELS = {
    "alembic": None,
    "mlflow": None,
    "nla": logging.WARNING,
    "ray": logging.ERROR,
    "ray.train": logging.ERROR,
    "ray.tune": logging.CRITICAL,  # it logs a traceback for each failed trial, for which this package prints a line
}
"""Console log level of each library; None keeps what MLFLOW_LOGGING_LEVEL sets."""


def log_file() -> Path:
    """Path of this stage's full log. It is in the project, because DVC deletes the copies that experiments run in.

    Each copy has its own log folder, named after the experiment, since the project and other copies can run at once.
    """
    logs = project_root() / LOGS
    if workspace() != project_root():
        logs /= os.environ.get("DVC_EXP_NAME") or workspace().name
    return logs / f"{Path(sys.argv[0]).stem}.log"


def run_stage(main: Callable[[], None]) -> None:
    """Runs a DVC stage: ends with DVC, and turns an NLAError or OSError into one message and exit code 1."""
    disable_telemetry()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    end_with_dvc()
    try:
        _keep_logs(log_file())
        main()
    except (NLAError, OSError) as error:
        _fail(told(error))
    except KeyboardInterrupt:
        print("interrupted: `dvc repro` goes on from here", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Exception:
        print(f"internal error; the full log: {log_file()}", file=sys.stderr)
        raise


def _keep_logs(path: Path) -> None:
    """Writes everything that the libraries log to a new file `path`; their console output stays the same."""
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
        logger.propagate = "." not in name  # ray.init adds a handler to "ray", and resets its level


def _fail(message: str) -> NoReturn:
    """Ends the stage with `message` and the path of its log, which gets the traceback."""
    logging.getLogger(__name__).debug("the stage failed", exc_info=True)
    console.file.flush()
    print(f"error: {message}", file=sys.stderr)
    if log_file().is_file():
        print(f"the full log: {log_file()}", file=sys.stderr)
    sys.exit(1)
