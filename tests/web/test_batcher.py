"""Crops of several clients in one batch: each gets its own part, and one that fails takes no other with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow_parts import constant_model, random_model

from nla import Predictor
from nla.serving import Prediction
from nla.web.batcher import Batcher


def run(work: Callable[[Batcher], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    """What `work` returns while a batcher runs."""

    async def all_of_it() -> Any:
        batcher = Batcher(**options)
        running = asyncio.create_task(batcher.run())
        try:
            return await asyncio.wait_for(work(batcher), 60)
        finally:
            running.cancel()
            batcher.close()

    return asyncio.run(all_of_it())


def crops(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 1), np.uint8)


def test_each_gets_its_own_part_and_batches_form(tmp_path: Path) -> None:
    predictor, sizes = Predictor.load(random_model(tmp_path)), list[int]()
    asked = [crops(n % 4, n) for n in range(40)]

    async def work(batcher: Batcher) -> list[Prediction]:
        return await asyncio.gather(*(batcher.predict(predictor, each) for each in asked))

    found = run(work, most=16, wait_seconds=0.05, observe=sizes.append)
    for images_NHWC, prediction in zip(asked, found, strict=True):
        expected = predictor.predict(images_NHWC[..., 0])
        assert prediction.label == expected.label
        np.testing.assert_allclose(prediction.probabilities, expected.probabilities, atol=1e-5)
        np.testing.assert_allclose(prediction.ambiguity, expected.ambiguity, atol=1e-5)
    assert sum(sizes) == sum(map(len, asked)) and len(sizes) < 10 and max(sizes) <= 16 + 3


def test_one_that_waits_alone_does_not_wait_long(tmp_path: Path) -> None:
    predictor = Predictor.load(random_model(tmp_path))

    async def work(batcher: Batcher) -> Prediction:
        return await batcher.predict(predictor, crops(1, 0))

    assert len(run(work, most=1000).label) == 1


def test_two_models_in_a_batch_answer_their_own(tmp_path: Path) -> None:
    """As while a newer version replaces the one before."""
    first, second = (Predictor.load(constant_model(tmp_path / str(n), n)) for n in (0, 2))

    async def work(batcher: Batcher) -> list[Prediction]:
        return await asyncio.gather(*(batcher.predict((first, second)[n % 2], crops(2, n)) for n in range(10)))

    assert [found.label[0] for found in run(work, wait_seconds=0.05)] == ["neutral", "surprise"] * 5


def test_a_failing_batch_and_a_client_that_is_gone_leave_the_others(tmp_path: Path) -> None:
    good, bad = (Predictor.load(random_model(tmp_path / name)) for name in "ab")
    bad.model.backbone.fc.bias.data.fill_(float("nan"))

    async def work(batcher: Batcher) -> list[Any]:
        gone = asyncio.create_task(batcher.predict(good, crops(1, 0)))
        asked = [batcher.predict(predictor, crops(1, n)) for n, predictor in enumerate((good, bad, good))]
        waiting = asyncio.gather(*asked, return_exceptions=True)
        await asyncio.sleep(0)
        gone.cancel()
        return [*await waiting, await batcher.predict(good, crops(1, 5))]

    one, failed, other, later = run(work, wait_seconds=0.05)
    assert all(isinstance(found, Prediction) for found in (one, other, later))
    with pytest.raises(Exception, match="not finite"):
        raise failed
