from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.fs as pa_fs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from training_parts import make_job, make_trainer

from nla.errors import Damaged, TrainingError
from nla.io import sha256
from nla.methods import Minibatch
from nla.seals import sealed_line
from nla.training.checkpoint import (
    STATE,
    Progress,
    check_files,
    optimizer_tensors,
    read_checkpoint,
    read_group,
    read_progress,
    read_remote_progress,
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
    read, found = read_checkpoint(tmp_path, "f")
    assert read == progress == read_remote_progress(pa_fs.LocalFileSystem(), str(tmp_path))
    torch.testing.assert_close(found, tensors, rtol=0, atol=0)


def test_the_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, Progress("f", 1), {})
    message = rf"^{tmp_path} is a checkpoint of another run \(f, not g\)\. Remove it and run again\.$"
    with pytest.raises(TrainingError, match=message):
        read_checkpoint(tmp_path, "g")


def test_a_damaged_state_elsewhere_is_named(tmp_path: Path) -> None:
    (tmp_path / STATE).write_text("{")
    with pytest.raises(Damaged, match=rf"^{tmp_path}/state\.json: .* `dvc repro -sf train` retrains\.$"):
        read_remote_progress(pa_fs.LocalFileSystem(), str(tmp_path))


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
    "text", [None, "", "{", "[]", "\0", '{"fingerprint": "f"}', '{"fingerprint": "f", "epochs": 1, "x": 2}']
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
    with pytest.raises(Damaged, match=r"model\.safetensors: the file is damaged"):
        read_group(tmp_path, "model")
    path.unlink()
    with pytest.raises(Damaged, match=r"model\.safetensors: file not found"):
        read_group(tmp_path, "model")


@given(st.data())
def test_no_changed_byte_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("checkpoint")
    tensors = {"best": {"w": torch.arange(9.0)}, "positions": {"late": torch.rand(4, 2)}}
    write_checkpoint(folder, Progress("f", 4, 1, 1, 0.5, [{"epoch": 1, "lr": 0.1}]), tensors)
    check_files(folder)
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(Damaged) as raised:
        check_files(folder)
    assert "\n" not in str(raised.value) and str(raised.value).startswith(str(path))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"epochs": 0}, r"epochs: must be greater than or equal to 1 \(got 0\)"),
        ({"epochs_done": -1}, r"epochs_done: must be greater than or equal to 0 \(got -1\)"),
        ({"epochs_done": 9}, r"epochs_done: must be at most epochs, 4 \(got 9\)"),
        ({"epochs_done": 2}, r"history: must have one row for each of the 2 epochs done"),
        ({"epochs_done": "1"}, r"epochs_done: must be a valid integer \(got '1'\)"),
        ({"best_epoch": 2}, r"best_epoch: must be at most epochs_done, 1 \(got 2\)"),
        ({"best_metric": math.nan}, r"best_metric: must be a finite number \(got nan\)"),
        ({"history": [{"epoch": None}]}, r"history\.0\.epoch"),
        ({"facts": []}, r"facts: must be an object"),
        ({"files": {"best.safetensors": 1}}, r"files\.best\.safetensors: must be a valid string"),
        ({"early_epoch": -5}, r"early_epoch: must be greater than or equal to 0"),
        ({"fingerprint": "g"}, r"sha256: does not match the content"),
    ],
)
def test_a_wrong_counter_names_the_field(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    write_checkpoint(tmp_path, Progress("f", 4, 1, 1, 0.5, [{"epoch": 1}]), {})
    state = tmp_path / STATE
    state.write_text(json.dumps(json.loads(state.read_text()) | change))
    with pytest.raises(Damaged, match=rf"state\.json: {problem}.*`dvc repro -sf train` retrains"):
        read_progress(tmp_path)


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


def test_moments_follow_the_parameter_and_counters_stay() -> None:
    """Also where the name of a module has the slash that parts a parameter from its key."""
    model = nn.ModuleDict({"a/b": nn.Linear(2, 1, bias=False).double()})
    optimizer = torch.optim.Adam(model.parameters())
    saved = {"exp_avg": torch.ones(1, 2), "exp_avg_sq": torch.zeros(1, 2), "step": torch.tensor(3.0)}
    restore_optimizer(model, optimizer, {f"a/b.weight/{key}": value for key, value in saved.items()})
    restored = optimizer.state[model["a/b"].weight]
    assert {key: value.dtype for key, value in restored.items()} == {
        "exp_avg": torch.float64,
        "exp_avg_sq": torch.float64,
        "step": torch.float32,
    }
    assert {key: value.tolist() for key, value in restored.items()} == {k: v.tolist() for k, v in saved.items()}
    assert optimizer_tensors(model, optimizer).keys() == {f"a/b.weight/{key}" for key in saved}


def test_state_of_other_kinds_is_saved_as_tensors() -> None:
    """A number becomes one, and what is None is not saved, as SGD's momentum before the first step."""
    model = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.state[model.weight] = {"rate": 0.5, "momentum_buffer": None}
    assert optimizer_tensors(model, optimizer) == {"weight/rate": torch.tensor(0.5)}


def test_a_file_that_is_as_written_but_holds_no_tensors(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    files = {"model.safetensors": sha256(tmp_path / "model.safetensors")}
    (tmp_path / STATE).write_bytes(sealed_line({"files": files, **asdict(Progress("f", 1))}))
    check_files(tmp_path)
    with pytest.raises(Damaged, match=r"model\.safetensors: .*`dvc repro -sf train` retrains\."):
        read_group(tmp_path, "model")


def test_names_state_the_parameter_of_each_moment() -> None:
    trainer = make_trainer(make_job(optimizer="adam"))
    trainer.start_epoch(0)
    images = torch.zeros(2, 16, 16, 1, dtype=torch.uint8)
    trainer.train_step(Minibatch(images, torch.tensor([0, 1]), torch.tensor([0, 1]), 0))
    names = set(optimizer_tensors(trainer.network, trainer.optimizer))
    assert {f"backbone.fc.bias/{key}" for key in ("step", "exp_avg", "exp_avg_sq")} <= names
    assert len(names) == 3 * len(list(trainer.network.parameters()))


def test_facts_that_change_are_kept_as_those_of_the_epochs_before() -> None:
    progress = Progress("f", 9, 1, facts={"device": "cpu", "workers": 1})
    progress.change_facts({"device": "cpu", "workers": 1})
    assert progress.facts == {"device": "cpu", "workers": 1}
    progress.change_facts({"device": "cuda", "workers": 1})
    first = {"epochs_done": 1, "device": "cpu"}
    assert progress.facts == {"device": "cuda", "workers": 1, "before": [first]}
    progress.epochs_done = 4
    progress.change_facts({"device": "cuda", "workers": 2, "precision": "bf16"})
    second = {"epochs_done": 4, "workers": 1, "precision": None}
    now = {"device": "cuda", "workers": 2, "precision": "bf16"}
    assert progress.facts == {**now, "before": [first, second]}


def test_progress_is_plain_json(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, Progress("f", 3, facts={"first_weights": None}), {})
    assert json.loads((tmp_path / STATE).read_text())["facts"] == {"first_weights": None}
