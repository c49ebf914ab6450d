"""Crops of several clients are classified together: one pass over a batch takes less time than one for each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from nla.serving.predictor import Prediction, Predictor
from nla.web.limits import BATCH_SECONDS, MAX_BATCH


@dataclass(frozen=True)
class _Waiting:
    predictor: Predictor
    images_NHWC: np.ndarray
    answer: asyncio.Future[Prediction]


class Batcher:
    """A queue of crops, and one thread that classifies what has gathered in it."""

    def __init__(
        self,
        most: int = MAX_BATCH,
        wait_seconds: float = BATCH_SECONDS,
        observe: Callable[[int], object] = lambda size: None,
    ) -> None:
        """
        Args:
            most: crops of a batch, unless one request has more.
            wait_seconds: how long the first of a batch waits for others.
            observe: called with the size of each batch.
        """
        self._most, self._wait, self._observe = most, wait_seconds, observe
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "inference")

    async def predict(self, predictor: Predictor, images_NHWC: np.ndarray) -> Prediction:
        """The prediction for crops as `Predictor.fitted` returns them.

        Raises:
            WeightsError: the network's probabilities are not finite.
        """
        answer: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Waiting(predictor, images_NHWC, answer))
        return await answer

    async def run(self) -> None:
        """Classifies until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._gather()
            groups: dict[int, list[_Waiting]] = {}  # two models while one replaces the other
            for each in batch:
                groups.setdefault(id(each.predictor), []).append(each)
            for group in groups.values():
                self._observe(sum(len(each.images_NHWC) for each in group))
                try:
                    predictions = await loop.run_in_executor(self._thread, _predict, group)
                except Exception as error:  # each client is told, and the next batch is served
                    for each in group:
                        if not each.answer.done():
                            each.answer.set_exception(error)
                    continue
                for each, prediction in zip(group, predictions, strict=True):
                    if not each.answer.done():  # its client may be gone
                        each.answer.set_result(prediction)

    async def _gather(self) -> list[_Waiting]:
        batch = [await self._queue.get()]
        size, end = len(batch[0].images_NHWC), asyncio.get_running_loop().time() + self._wait
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                while size < self._most:
                    batch.append(await self._queue.get())
                    size += len(batch[-1].images_NHWC)
        return batch

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown()


def _predict(group: Sequence[_Waiting]) -> list[Prediction]:
    """One prediction for each that waits, by the same predictor."""
    images_NHWC = np.concatenate([each.images_NHWC for each in group])
    together = group[0].predictor.predict_fitted(images_NHWC)
    return list(together.split(len(each.images_NHWC) for each in group))
