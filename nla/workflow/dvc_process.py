"""Information about, and termination with, the DVC command that started a stage."""

from __future__ import annotations

import functools
import os
import re
import signal
import threading
import time

import psutil

POLL_SECONDS = 0.5
GRACE_SECONDS = 10.0
TAKE_VALUES = "CSjmn"  # short options of `dvc exp run` whose value can follow without a space


def forced() -> bool:
    """Whether the stage runs under `dvc repro -f` or `dvc exp run -f`, which DVC does not tell its stages."""
    dvc = _dvc_process()
    return dvc is not None and _is_forced(dvc.cmdline())


@functools.cache  # one watcher thread is enough
def end_with_dvc() -> None:
    """Terminates this process once the DVC command that started it is gone.

    If only DVC is killed, its stage keeps running, and a second `dvc repro` would wait for it. The stage gets SIGTERM
    and some seconds to clean up. Outside DVC this does nothing.
    """
    dvc = _dvc_process()
    if dvc is not None:
        threading.Thread(target=_watch, args=(dvc,), daemon=True, name="end-with-dvc").start()


def _watch(dvc: psutil.Process) -> None:
    while _lives(dvc):
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(128 + signal.SIGTERM)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it ended between the two calls
        return False


def _dvc_process() -> psutil.Process | None:
    """The nearest ancestor that is a DVC command; None outside a stage."""
    if "DVC_STAGE" not in os.environ:
        return None
    return next((process for process in psutil.Process().parents() if _is_dvc(process)), None)


def _is_dvc(process: psutil.Process) -> bool:
    try:
        words = [os.path.basename(word) for word in process.cmdline()[:3]]  # noqa: PTH119
    except psutil.Error:
        return False
    return "dvc" in words


def _is_forced(command: list[str]) -> bool:
    """Whether -f or --force is given, also in a cluster such as -sf, but not in a value as in -Sdata.source=ferplus."""
    clusters = [re.split(f"[{TAKE_VALUES}]", word[1:])[0] for word in command if re.match("-[^-]", word)]
    return "--force" in command or any("f" in flags for flags in clusters)
