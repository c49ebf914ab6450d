"""Training without Ray: resumed, and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_parts import CallRecorder, MakeSamples, make_job

from nla.config.ray import RayConfig
from nla.errors import TrainingError
from nla.training.checkpoint import read_progress
from nla.training.job import Job
from nla.training.local_training import train_local
from nla.training.trainer import Split


def job_of(epochs: int) -> Job:
    return make_job(epochs=epochs, schedule="constant", fingerprint="f" * 16)


def test_it_resumes_from_its_last_epoch(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    split, config = Split(tiny_samples(24), tiny_samples(12, seed=1)), RayConfig(num_workers=0, use_gpu=False)
    train_local(job_of(1), split, config, tmp_path)
    calls = CallRecorder()
    progress = read_progress(train_local(job_of(3), split, config, tmp_path, [calls]))
    assert [row["epoch"] for row in calls.rows] == [2, 3]
    assert [row["epoch"] for row in progress.history] == [1, 2, 3]
    assert progress.facts["workers"] == 1 and progress.facts["device"] == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_reported(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    split, config = Split(tiny_samples(24), tiny_samples(12)), RayConfig(num_workers=0, use_gpu=True)
    with pytest.raises(TrainingError, match=r"ray\.use_gpu is true, but PyTorch finds no GPU"):
        train_local(job_of(1), split, config, tmp_path)
