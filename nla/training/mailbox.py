"""What workers say on the way to the driver.

Nothing is imported here that the mailbox, a process of its own, does not need.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray.exceptions import RayError

from nla.errors import NLAError
from nla.training.observer import Observer

SAY_EVERY = 0.25  # seconds between two messages about steps
LISTEN_EVERY = 0.25

log = logging.getLogger(__name__)


class Mailbox:
    """An actor that keeps what the first worker says until the driver fetches it, and an error that ends training."""

    def __init__(self) -> None:
        self.letters: list[tuple[str, tuple[Any, ...]]] = []
        self.error: NLAError | None = None

    def put(self, kind: str, *content: Any) -> None:
        self.letters.append((kind, content))

    def fetch(self) -> list[tuple[str, tuple[Any, ...]]]:
        letters, self.letters = self.letters, []
        return letters

    def fail(self, error: NLAError) -> None:
        self.error = self.error or error

    def failure(self) -> NLAError | None:
        return self.error


class Letters:
    """An observer on a worker that writes to the mailbox and waits for nobody."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox
        self.said = 0.0

    def step(self, epoch: int, step: int, steps: int, images: int) -> None:
        now = time.monotonic()
        if now - self.said >= SAY_EVERY or step == steps:
            self.said = now
            self.mailbox.put.remote("step", epoch, step, steps, images)

    def epoch(self, row: dict[str, float]) -> None:
        self.mailbox.put.remote("epoch", row)


@contextlib.contextmanager
def relay(mailbox: Any, observer: Observer) -> Iterator[None]:
    """Passes letters on to `observer` in a thread of the driver, the last ones before it leaves.

    Trouble with that is logged alone: it must neither stop a training nor hide why one failed.
    """
    done = threading.Event()

    def deliver() -> None:
        try:
            for kind, content in ray.get(mailbox.fetch.remote()):
                getattr(observer, kind)(*content)
        except RayError:
            log.debug("no letters: Ray is gone", exc_info=True)
        except Exception:
            log.exception("what training tells could not be shown or recorded")

    def listen() -> None:
        while not done.wait(LISTEN_EVERY):
            deliver()

    thread = threading.Thread(target=listen, daemon=True, name="relay")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        deliver()
