"""Several workers train on clips as one does: the same weights, positions and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worker_group
from safetensors.torch import load_file
from sequence_parts import config, make_sequences
from worker_group import together

from nla.training.checkpoint_store import FolderStore
from nla.training.process_group import ProcessGroup
from nla.video.sequences import epoch_clips
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
    for row, same, other in zip(*histories, expected, strict=True):
        for metric in ("train_loss", "valid_nll", "valid_macro_f1", "valid_accuracy"):
            assert row[metric] == same[metric] == pytest.approx(other[metric], rel=1e-3), metric
    one, two = (load_file(tmp_path / f"{run}/epoch-00003/last.safetensors") for run in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-3)
    # A frame in two clips of an epoch has the later position, or with several workers the mean of theirs.
    once_M = times_seen().max(0) <= 1
    one, two = (load_file(tmp_path / f"{run}/epoch-00003/positions.safetensors") for run in ("one", "two"))
    assert once_M.sum() > 10
    for moment in ("early", "late"):
        torch.testing.assert_close(two[moment][once_M], one[moment][once_M], rtol=1e-3, atol=1e-3, equal_nan=True)


def times_seen() -> np.ndarray:
    """How often each epoch's clips have each training frame, [3, M]."""
    sequences = make_sequences(0, unannotated=0.4)
    times = np.zeros((3, sequences.frames), np.int64)
    for epoch in range(3):
        for clip in epoch_clips(sequences, config(train={"epochs": 3}), epoch):
            times[epoch, sequences.offsets[clip.video] + clip.at_T] += 1
    return times
