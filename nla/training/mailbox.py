"""What workers say on the way to the driver, in the key-value store that every Ray has.

An actor for it would be one more process, whose main loop wakes a hundred times a second beside the training.
"""

from __future__ import annotations

import contextlib
import json
import logging
import pickle
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from ray.exceptions import RayError
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_list, _internal_kv_put

from nla.errors import NLAError
from nla.training.observer import Observer

SAY_EVERY = 0.25  # seconds between two messages about steps
LISTEN_EVERY = 0.25

log = logging.getLogger(__name__)


class Mailbox:
    """Letters of one training, which lie in the store until the driver fetches them, and an error that ends it."""

    def __init__(self) -> None:
        self.name = f"nla/{uuid.uuid4().hex}"
        self.letters, self.error = f"{self.name}/letters/", f"{self.name}/error"

    def put(self, kind: str, *content: Any) -> None:
        """Content is what JSON can say."""
        _internal_kv_put(f"{self.letters}{time.time_ns():020}", json.dumps([kind, content]))

    def fetch(self) -> list[tuple[str, list[Any]]]:
        """(kind, content) of each letter, in the order of their clocks; they are then gone."""
        letters = []
        for key in sorted(_internal_kv_list(self.letters)):
            kind, content = json.loads(_internal_kv_get(key))
            letters.append((kind, content))
            _internal_kv_del(key)
        return letters

    def fail(self, error: NLAError) -> None:
        """Keeps the first error."""
        _internal_kv_put(self.error, pickle.dumps(error), overwrite=False)

    def failure(self) -> NLAError | None:
        """The error that ends the training."""
        found = _internal_kv_get(self.error)
        return None if found is None else pickle.loads(found)

    def close(self) -> None:
        """Leaves nothing in the store, unless Ray is gone with it."""
        with contextlib.suppress(RayError):
            _internal_kv_del(self.name, del_by_prefix=True)


class Letters:
    """An observer on a worker that writes to the mailbox. Trouble with that is logged alone: training goes on."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.said = 0.0

    def step(self, epoch: int, step: int, steps: int, images: int) -> None:
        now = time.monotonic()
        if now - self.said >= SAY_EVERY or step == steps:
            self.said = now
            self._say("step", epoch, step, steps, images)

    def epoch(self, row: dict[str, float]) -> None:
        self._say("epoch", row)

    def _say(self, kind: str, *content: Any) -> None:
        try:
            self.mailbox.put(kind, *content)
        except RayError:
            log.debug("a letter was lost", exc_info=True)


@contextlib.contextmanager
def relay(mailbox: Mailbox, observer: Observer) -> Iterator[None]:
    """Passes letters on to `observer` in a thread of the driver, the last ones before it leaves.

    Trouble with that is logged alone: it must neither stop a training nor hide why one failed.
    """
    done = threading.Event()

    def deliver() -> None:
        try:
            for kind, content in mailbox.fetch():
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
