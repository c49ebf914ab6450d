"""Several workers train on clips as one does: the same weights, positions and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import worker_group
from safetensors.torch import load_file
from sequence_parts import config, make_sequences
from worker_group import together

from nla.training.checkpoint_store import FolderStore
from nla.training.process_group import ProcessGroup
from nla.video.trainer import ClipJob, clip_trainer

SINGLE = ProcessGroup(torch.device("cpu"))
LOSSES: dict[str, dict[str, Any]] = {"paper": {}, "ce": {"name": "ce"}, "released": {"variant": "released-video"}}


@pytest.fixture(scope="module", autouse=True)
def end_the_pool() -> Iterator[None]:
    yield
    worker_group.pool().shutdown()
    worker_group.pool.cache_clear()


def train_into(workers: ProcessGroup, epochs: int, loss: dict[str, Any], folder: Path) -> list[dict[str, float]]:
    """Trains without dropout, at a constant rate, so that a shorter training is the beginning of a longer one."""
    rate = {"epochs": epochs, "schedule": "constant", "lr": 0.003, "batch_size": 4}
    job = ClipJob(config(model={"dropout": 0.0}, loss=loss, train=rate), fingerprint="c")
    data = make_sequences(0, unannotated=0.4), make_sequences(1, videos=5)
    return clip_trainer(job, data, workers, FolderStore(folder), []).fit().history


@pytest.mark.parametrize("name", LOSSES)
def test_two_workers_are_one_and_resume(tmp_path: Path, name: str) -> None:
    expected = train_into(SINGLE, 3, LOSSES[name], tmp_path / "one")
    together(2, train_into, 2, LOSSES[name], tmp_path / "two")
    histories = together(2, train_into, 3, LOSSES[name], tmp_path / "two")
    assert histories[0] == histories[1]
    for row, other in zip(histories[0], expected, strict=True):
        for metric in ("train_loss", "valid_nll", "valid_macro_f1", "valid_accuracy"):
            assert row[metric] == pytest.approx(other[metric], rel=1e-3), metric
    for group in ("last", "positions"):
        one, two = (load_file(tmp_path / f"{run}/epoch-00003/{group}.safetensors") for run in ("one", "two"))
        for key in one:
            torch.testing.assert_close(two[key], one[key], rtol=1e-3, atol=1e-3, equal_nan=True)
