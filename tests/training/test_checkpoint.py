from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from training_parts import make_job, make_trainer

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
from nla.training.optim import set_lr
from nla.training.trainer import Trainer


def test_round_trip(tmp_path: Path) -> None:
    history = [{"epoch": 1, "valid_nll": 0.1 + 0.2}, {"epoch": 2, "valid_nll": 1e-300}]
    progress = Progress("f", 4, 2, 1, 0.75, history, 1, {"precision": "bf16"})
    tensors = {"model": {"w": torch.tensor([1.5, -0.0])}, "positions": {"late": torch.zeros(0, 2)}}
    write_checkpoint(tmp_path, progress, tensors)
    assert read_progress(tmp_path) == progress
    assert repr(read_progress(tmp_path)) == repr(progress), "an epoch stays an integer"
    for name, group in tensors.items():
        torch.testing.assert_close(read_group(tmp_path, name), group, rtol=0, atol=0)


def test_the_state_is_written_last(tmp_path: Path) -> None:
    """A folder without it is not a checkpoint: a run never resumes from a half-written one."""

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
def test_what_is_not_a_checkpoint_is_reported(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / STATE).write_text(text)
    with pytest.raises(TrainingError, match=r"state\.json: .+\. `dvc repro -sf train` retrains\."):
        read_progress(tmp_path)


def test_damaged_tensors_are_reported(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, Progress("f", 1), {"model": {"w": torch.zeros(100)}})
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match=r"model\.safetensors: the file is damaged"):
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
def test_a_restored_optimizer_takes_the_same_step(tmp_path: Path, config: dict[str, Any]) -> None:
    images = torch.randint(0, 256, (8, 16, 16, 1), dtype=torch.uint8, generator=torch.manual_seed(0))
    target = torch.arange(8) % 3

    def step(trainer: Trainer) -> None:
        trainer.start_epoch(0)
        set_lr(trainer.optimizer, 0.01)
        trainer.train_step(Minibatch(images, target, torch.arange(8), 0))

    trainer, again = (make_trainer(make_job(**config)) for _ in range(2))
    step(trainer)
    state = optimizer_tensors(trainer.network, trainer.optimizer)
    write_checkpoint(tmp_path, Progress("f", 1), {"model": trainer.network.state_dict(), "optimizer": state})
    again.network.load_state_dict(read_group(tmp_path, "model"))
    restore_optimizer(again.network, again.optimizer, read_group(tmp_path, "optimizer"))
    for one, other in zip(trainer.network.parameters(), again.network.parameters(), strict=True):
        for key, value in trainer.optimizer.state[one].items():
            if value is not None:
                restored = again.optimizer.state[other][key]
                assert (restored.dtype, restored.stride()) == (value.dtype, value.stride())
    step(trainer)
    step(again)
    after = again.network.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in trainer.network.state_dict().items())


def test_names_state_the_parameter_of_each_moment() -> None:
    trainer = make_trainer(make_job(optimizer="adam"))
    trainer.start_epoch(0)
    images = torch.zeros(2, 16, 16, 1, dtype=torch.uint8)
    trainer.train_step(Minibatch(images, torch.tensor([0, 1]), torch.tensor([0, 1]), 0))
    names = set(optimizer_tensors(trainer.network, trainer.optimizer))
    assert {f"backbone.fc.bias/{key}" for key in ("step", "exp_avg", "exp_avg_sq")} <= names
    assert len(names) == 3 * len(list(trainer.network.parameters()))


def test_progress_is_plain_json(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, Progress("f", 3, facts={"first_weights": None}), {})
    assert json.loads((tmp_path / STATE).read_text())["facts"] == {"first_weights": None}
