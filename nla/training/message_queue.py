"""Messages from the training workers to the driver, through the key-value store that every Ray has.

The driver calls the callbacks, so workers need no tracking store. A Ray actor as the queue would be one more process,
whose main loop wakes a hundred times a second beside the training.
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
from nla.training.callbacks import Callback

SEND_INTERVAL = 0.25
"""Seconds between two messages about steps; epochs are always sent."""
RECEIVE_INTERVAL = 0.25
"""Seconds between two looks at the queue."""

log = logging.getLogger(__name__)


class MessageQueue:
    """The queue of one run, and the error that ended it. It pickles, so that workers can be given it."""

    def __init__(self) -> None:
        self.prefix = f"nla/{uuid.uuid4().hex}"
        self._messages, self._error = f"{self.prefix}/messages/", f"{self.prefix}/error"

    def put(self, method: str, *arguments: Any) -> None:
        """Sends a call of a Callback's `method`; the arguments are JSON-serializable."""
        _internal_kv_put(f"{self._messages}{time.monotonic_ns():020}", json.dumps([method, arguments]))

    def drain(self) -> list[tuple[str, list[Any]]]:
        """Removes and returns all messages, as they were sent, by one process at a time."""
        messages = []
        for key in sorted(_internal_kv_list(self._messages)):
            method, arguments = json.loads(_internal_kv_get(key))
            messages.append((method, arguments))
            _internal_kv_del(key)
        return messages

    def put_error(self, error: NLAError) -> None:
        """Stores the error that ends the run; only the first one counts."""
        _internal_kv_put(self._error, pickle.dumps(error), overwrite=False)

    def error(self) -> NLAError | None:
        """The error that ended the run."""
        found = _internal_kv_get(self._error)
        error: NLAError | None = None if found is None else pickle.loads(found)
        return error

    def close(self) -> None:
        """Removes everything from the store, unless Ray has ended with it."""
        with contextlib.suppress(RayError):
            _internal_kv_del(self.prefix, del_by_prefix=True)


class QueueCallback(Callback):
    """Sends the calls of a worker to the driver. If that fails, it is only logged: training continues."""

    def __init__(self, queue: MessageQueue) -> None:
        self.queue = queue
        self._last_sent = 0.0

    def on_step_end(self, epoch: int, step: int, steps: int, images: int) -> None:
        """Sends the step, unless another one was sent just before; the last one of an epoch is always sent."""
        now = time.monotonic()
        if now - self._last_sent >= SEND_INTERVAL or step == steps:
            self._last_sent = now
            self._send("on_step_end", epoch, step, steps, images)

    def on_epoch_end(self, row: dict[str, float]) -> None:
        """Sends the epoch."""
        self._send("on_epoch_end", row)

    def on_warning(self, text: str) -> None:
        """Sends the warning."""
        self._send("on_warning", text)

    def _send(self, method: str, *arguments: Any) -> None:
        try:
            self.queue.put(method, *arguments)
        except RayError:
            log.debug("lost a message to the driver", exc_info=True)


@contextlib.contextmanager
def forwarded(queue: MessageQueue, callback: Callback) -> Iterator[None]:
    """Passes the queue's messages to `callback` in a thread of the driver; the last ones before it returns.

    Errors of the callback are only logged: they must neither stop training nor hide why it failed.
    """
    done = threading.Event()

    def forward() -> None:
        try:
            for method, arguments in queue.drain():
                getattr(callback, method)(*arguments)
        except RayError:
            log.debug("no messages: Ray has ended", exc_info=True)
        except Exception:
            log.exception("a callback failed: progress of the run was not shown or not recorded")

    def listen() -> None:
        while not done.wait(RECEIVE_INTERVAL):
            forward()

    thread = threading.Thread(target=listen, daemon=True, name="training messages")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        forward()
