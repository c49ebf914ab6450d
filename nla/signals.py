"""Signals that end a stage: one line, exit code 128 + number, and nothing half-written or still running.

It imports no library, because a stage sets this up before its own imports, which take seconds.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

ENDING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
"""Ctrl-C, `kill`, and a terminal that is closed."""
GRACE_SECONDS = 10.0
"""After so long the process ends, whether or not all is in order."""
AGAIN_SECONDS = 0.05
"""After so long a signal is raised again that Python has swallowed: longer than most calls of `__del__`."""

Handler = Callable[[int, FrameType | None], Any]


class Ending:
    """Whether a signal ends this process, and which."""

    number: int = signal.SIGINT
    """Of the first signal."""

    @property
    def code(self) -> int:
        """Exit code, as that of a shell whose command was ended so."""
        return 128 + self.number

    @property
    def line(self) -> str:
        """What the user reads."""
        how = "interrupted" if self.number == signal.SIGINT else f"ended by {signal.Signals(self.number).name}"
        return f"{how}: `dvc repro` resumes"


def end_at_once() -> None:
    """From now on, a signal ends this process without more ado: it has not begun anything, or is done."""
    _handle(_exit)


@contextlib.contextmanager
def ended_in_order(*, in_stage: bool = False) -> Iterator[Ending]:
    """Each of the signals raises KeyboardInterrupt inside the block, once; yields which it was.

    Once, but where Python swallows what is raised, as in the garbage collector's callbacks, in `__del__` and in calls
    from C: there it is raised again, after AGAIN_SECONDS, until it gets out.
    If the process has not ended within GRACE_SECONDS, it is ended; with the line of a stage if it is one.
    SystemExit, which would suit the others, becomes an exit code of Ray's if it is raised in one of Ray's calls.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    hook_before = sys.unraisablehook
    main_thread = threading.main_thread().ident or 0
    ending, again = Ending(), threading.Timer(0, _ignore)

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        _handle(_ignore)  # it is ending already
        ending.number = number
        end = functools.partial(_exit, number, frame) if in_stage else functools.partial(os._exit, ending.code)
        limit = threading.Timer(GRACE_SECONDS, end)
        limit.daemon = True
        limit.start()
        _forget_lost_terminal()
        raise KeyboardInterrupt

    def raise_again(number: int, frame: FrameType | None) -> NoReturn:
        _handle(_ignore)
        raise KeyboardInterrupt

    def swallowed(unraisable: sys.UnraisableHookArgs) -> None:
        nonlocal again
        is_ours = threading.get_ident() == main_thread and issubclass(unraisable.exc_type, KeyboardInterrupt)
        if not is_ours:
            hook_before(unraisable)
            return
        _handle(raise_again)
        # a real signal, from another thread: raised here it would be swallowed, too; and it ends calls of the system
        again = threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (main_thread, ending.number))
        again.daemon = True
        again.start()

    _handle(interrupt)
    sys.unraisablehook = swallowed
    try:
        yield ending
    finally:
        again.cancel()
        sys.unraisablehook = hook_before
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore(*_: object) -> None:
    """Handler of a signal that changes nothing."""


def _handle(handler: Handler) -> None:
    """Sets the handler of each signal, unless whoever started this process has it ignored, as `nohup` does."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    ending = Ending()
    ending.number = number
    with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{ending.line}\n".encode())
    os._exit(ending.code)


def _forget_lost_terminal() -> None:
    """Discards what is still printed if the terminal was closed: an error of printing would hide the signal."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            with open(os.devnull, "w") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), stream)
