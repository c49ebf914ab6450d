"""Thread pool that works ahead, and returns results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from nla.machine.available import cores

T = TypeVar("T")
R = TypeVar("R")

THREADS = min(8, cores())
"""Reading, decoding and hashing release the GIL; with more than 8 threads the writer becomes slower."""


def in_order(work: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """`work(item)` for each item, in the order of `items`; at most `ahead` + 1 results are held at once.

    `items` is iterated in the caller's thread, and `work` runs in the pool; exceptions of both reach the caller.
    """
    under_way: deque[Future[R]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for item in items:
                under_way.append(pool.submit(work, item))
                if len(under_way) > ahead:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
