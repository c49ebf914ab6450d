from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from training_parts import ALONE, make_job

from nla.errors import TrainingError, WeightsError
from nla.methods import Minibatch
from nla.training.checkpoint import (
    STATE,
    Progress,
    optimizer_tensors,
    read_group,
    read_progress,
    restore_optimizer,
    write_checkpoint,
)
from nla.training.trainer import Learner


def test_comes_back_as_written(tmp_path: Path) -> None:
    history = [{"epoch": 1, "valid_nll": 0.1 + 0.2}, {"epoch": 2, "valid_nll": 1e-300}]
    progress = Progress("f", 4, 2, 1, 0.75, history, 1, {"precision": "bf16"})
    tensors = {"model": {"w": torch.tensor([1.5, -0.0])}, "positions": {"late": torch.zeros(0, 2)}}
    write_checkpoint(tmp_path, progress, tensors)
    assert read_progress(tmp_path) == progress
    for name, group in tensors.items():
        torch.testing.assert_close(read_group(tmp_path, name), group, rtol=0, atol=0)


def test_the_state_is_written_last(tmp_path: Path) -> None:
    """A folder without it is no checkpoint: nothing half-written is ever gone on with."""

    class Breaks(torch.Tensor):
        def detach(self) -> Any:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_checkpoint(
            tmp_path, Progress("f", 1), {"a": {"w": torch.zeros(1)}, "b": {"w": torch.zeros(1).as_subclass(Breaks)}}
        )
    assert (tmp_path / "a.safetensors").exists() and not (tmp_path / STATE).exists()


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", '{"fingerprint": "f"}', '{"fingerprint": "f", "epochs": 1, "x": 2}']
)
def test_what_is_no_checkpoint_is_told(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / STATE).write_text(text)
    with pytest.raises(TrainingError, match=r"holds no usable checkpoint .*dvc repro -sf train"):
        read_progress(tmp_path)


def test_damaged_tensors_are_told(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, Progress("f", 1), {"model": {"w": torch.zeros(100)}})
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match=r"model\.safetensors is damaged"):
        read_group(tmp_path, "model")


@pytest.mark.parametrize(
    "config",
    [
        {"optimizer": "sgd", "momentum": 0.9},
        {"optimizer": "sgd", "momentum": 0.0},
        {"optimizer": "adam"},
        {"optimizer": "adamw", "channels_last": False},
        {"optimizer": "adamw", "channels_last": True},
    ],
    ids=str,
)
def test_a_restored_optimiser_takes_the_same_step(tmp_path: Path, config: dict[str, Any]) -> None:
    images = torch.randint(0, 256, (8, 16, 16, 1), dtype=torch.uint8, generator=torch.manual_seed(0))
    target = torch.arange(8) % 3

    def step(learner: Learner) -> None:
        learner.start_epoch(0)
        learner.step(Minibatch(images, target, torch.arange(8), 0), 0.01)

    learner, again = (Learner(make_job(**config), ALONE, torch.zeros(1).long()) for _ in range(2))
    step(learner)
    state = optimizer_tensors(learner.model, learner.optimizer)
    write_checkpoint(tmp_path, Progress("f", 1), {"model": learner.model.state_dict(), "optimizer": state})
    again.model.load_state_dict(read_group(tmp_path, "model"))
    restore_optimizer(again.model, again.optimizer, read_group(tmp_path, "optimizer"))
    for one, other in zip(learner.model.parameters(), again.model.parameters(), strict=True):
        for key, value in learner.optimizer.state[one].items():
            if value is not None:
                restored = again.optimizer.state[other][key]
                assert (restored.dtype, restored.stride()) == (value.dtype, value.stride())
    step(learner)
    step(again)
    after = again.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in learner.model.state_dict().items())


def test_names_tell_whose_moment_it_is() -> None:
    learner = Learner(make_job(optimizer="adam"), ALONE, torch.zeros(1).long())
    learner.start_epoch(0)
    images = torch.zeros(2, 16, 16, 1, dtype=torch.uint8)
    learner.step(Minibatch(images, torch.tensor([0, 1]), torch.tensor([0, 1]), 0), 0.01)
    names = set(optimizer_tensors(learner.model, learner.optimizer))
    assert {f"backbone.fc.bias/{key}" for key in ("step", "exp_avg", "exp_avg_sq")} <= names
    assert len(names) == 3 * len(list(learner.model.parameters()))


def test_progress_is_plain_json(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, Progress("f", 3, facts={"first_weights": None}), {})
    assert json.loads((tmp_path / STATE).read_text())["facts"] == {"first_weights": None}
