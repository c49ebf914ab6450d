"""Training on a GPU against the same on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_parts import SINGLE, MakeSamples, checkpoint_of, make_job

from nla.training.checkpoint import Progress, read_progress
from nla.training.checkpoint_store import FolderStore
from nla.training.process_group import ProcessGroup
from nla.training.trainer import Split, Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that this PyTorch can use")


@pytest.fixture(params=["fp32", "bf16"])
def precision(request: pytest.FixtureRequest) -> str:
    return request.param


def trained(workers: ProcessGroup, precision: str, split: Split, folder: Path) -> Progress:
    job = make_job(precision=precision, compile=False, loss={"name": "nla"}, recipe="affine", epochs=2, lr=0.01)
    return Trainer(job, split, workers, FolderStore(folder)).fit()


def test_losses_are_those_of_the_cpu(tmp_path: Path, tiny_samples: MakeSamples, precision: str) -> None:
    split = Split(tiny_samples(56), tiny_samples(31, seed=1))
    expected = trained(SINGLE, "fp32", split, tmp_path / "cpu")
    progress = trained(ProcessGroup(torch.device("cuda", 0)), precision, split, tmp_path / "gpu")
    for name in ("train_loss", "valid_nll"):
        rows = [[row[name] for row in each.history] for each in (progress, expected)]
        assert rows[0] == pytest.approx(rows[1], abs=1e-2)
    facts = read_progress(checkpoint_of(tmp_path / "gpu")).facts
    assert (facts["device"], facts["precision"]) == ("cuda", precision)
    assert facts["device_name"] == torch.cuda.get_device_name()
