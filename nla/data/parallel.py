"""A thread pool that works ahead and returns results in order, in bounded memory.

Threads suffice: reading, decoding, encoding and hashing an image all release the GIL.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from nla.hardware import cores

T = TypeVar("T")
R = TypeVar("R")

THREADS = min(8, cores())
"""With more than 8 threads, the thread that writes the results becomes slower."""


def map_in_order(work: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Yields `work(item)` for each item, in the order of `items`; at most `ahead` + 1 results are in memory.

    `items` is iterated in the caller's thread, and `work` runs in the pool; exceptions of both reach the caller.
    """
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
