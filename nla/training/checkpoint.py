"""Checkpoints: the complete state of a run after an epoch, and where it is kept while training runs.

A checkpoint is a folder:

    state.json               epochs done, history, best epoch, fingerprint
    trained.safetensors      weights being trained, and the method's parameters and buffers
    optimizer.safetensors    moments, named PARAMETER/KEY
    average.safetensors      moving average of the weights, with `train.ema`
    last.safetensors         weights of this epoch for evaluation (the average if there is one)
    best.safetensors         weights of the epoch with the best validation metric
    positions.safetensors    (p_GT, p_NN) of every training sample, early and late

state.json is written last, so a folder without it is incomplete, and never read. Which checkpoint a run resumes from,
and what it restores, is documented and done in nla.training.trainer.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow.fs as pa_fs
import torch
from pydantic import ConfigDict
from safetensors.torch import save_file
from torch import Tensor, nn

from nla.errors import TrainingError
from nla.io import parse_json_as, read_json_as
from nla.models.saved_model import read_tensors

STATE = "state.json"
REMEDY = "`dvc repro -sf train` retrains."


@dataclass
class Progress:
    """The counters and the history of a run; JSON-able."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # a field that this version does not know would be lost

    fingerprint: str
    epochs: int
    """Planned."""
    epochs_done: int = 0
    best_epoch: int = 0
    """Counted from 1; 0 before the first."""
    best_metric: float = -1.0
    history: list[dict[str, int | float]] = field(default_factory=list)
    """One row per epoch: validation metrics, training loss, learning rate, seconds."""
    early_epoch: int = 0
    """Number of complete epochs before that of the early positions."""
    facts: dict[str, Any] = field(default_factory=dict)
    """First weights, precision, workers, device; under `before`, those of epochs that ran elsewhere."""

    @property
    def moments(self) -> dict[str, int]:
        """Number of complete epochs before those of the early and of the late positions."""
        return {"early": self.early_epoch, "late": self.epochs_done - 1}

    def change_facts(self, current: Mapping[str, Any]) -> None:
        """Sets the `current` facts when a run resumes, perhaps elsewhere; those that differ move to `before`."""
        changed = {name: self.facts.get(name) for name in current if self.facts.get(name) != current[name]}
        if changed:
            before = [*self.facts.get("before", []), {"epochs_done": self.epochs_done, **changed}]
            self.facts = {**self.facts, **current, "before": before}


def write_checkpoint(folder: Path, progress: Progress, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Writes `tensors` (file name -> name -> tensor), then state.json."""
    for name, group in tensors.items():
        save_file(
            {key: tensor.detach().cpu().contiguous() for key, tensor in group.items()}, folder / f"{name}.safetensors"
        )
    (folder / STATE).write_text(json.dumps(asdict(progress)))


def read_checkpoint(folder: Path, fingerprint: str) -> tuple[Progress, dict[str, dict[str, Tensor]]]:
    """Reads what `write_checkpoint` wrote.

    Raises:
        TrainingError: the checkpoint is damaged, or has another fingerprint.
    """
    progress = read_progress(folder)
    if progress.fingerprint != fingerprint:
        raise TrainingError(
            f"{folder} is a checkpoint of another run ({progress.fingerprint}, not {fingerprint}): remove it and run "
            "again"
        )
    return progress, {path.stem: read_tensors(path) for path in sorted(folder.glob("*.safetensors"))}


def read_progress(folder: Path) -> Progress:
    """Reads state.json of a checkpoint. Raises TrainingError if it is missing or damaged."""
    return read_json_as(folder / STATE, Progress, REMEDY, TrainingError)


def read_history(filesystem: pa_fs.FileSystem, folder: str) -> list[dict[str, float]]:
    """Reads the history of a checkpoint in any file system, without fetching its tensors."""
    with filesystem.open_input_stream(f"{folder}/{STATE}") as file:
        return parse_json_as(file.readall(), Progress, f"{folder}/{STATE}", REMEDY, TrainingError).history


def read_group(folder: Path, name: str) -> dict[str, Tensor]:
    """Reads the tensors of one file of a checkpoint, such as `best`."""
    return read_tensors(folder / f"{name}.safetensors")


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns the optimizer's state, named PARAMETER/KEY."""
    return {
        f"{name}/{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
        if value is not None
    }


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restores the result of `optimizer_tensors`."""
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        parameter_name, key = name.rsplit("/", 1)
        parameter = parameters[parameter_name]
        # A step counter keeps its float32; a moment has the dtype and device of its parameter.
        value = tensor.to(parameter.device) if tensor.ndim == 0 else tensor.to(parameter)
        optimizer.state[parameter][key] = _strides_like(value, parameter)


def _strides_like(value: Tensor, parameter: Tensor) -> Tensor:
    """`value` in the memory layout of `parameter`, so that a resumed step repeats the same arithmetic."""
    return value if value.ndim == 0 else torch.empty_like(parameter).copy_(value)


class CheckpointStore(Protocol):
    """Keeps the latest checkpoint of a run: in a folder, or in the storage of Ray Train or Ray Tune."""

    def latest(self) -> AbstractContextManager[Path | None]:
        """The last complete checkpoint as a local folder, or None."""
        ...

    def save(self, write: Callable[[Path], None] | None, row: dict[str, float]) -> None:
        """Keeps what `write` writes into an empty folder, in place of the previous checkpoint.

        Every process calls it; only the main one has a `write`. `row` is the history's row of the epoch.
        """
        ...


class FolderStore:
    """Keeps the checkpoint as FOLDER/epoch-NNNNN, for a single process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def latest(self) -> Iterator[Path | None]:
        """The last complete checkpoint, or None."""
        complete = [path for path in sorted(self.folder.glob("epoch-*")) if (path / STATE).is_file()]
        yield complete[-1] if complete else None

    def save(self, write: Callable[[Path], None] | None, row: dict[str, float]) -> None:
        """Replaces the previous checkpoint atomically: one that cannot be written leaves it as it is."""
        if write is None:
            return
        part = self.folder / "part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        write(part)
        previous = list(self.folder.glob("epoch-*"))
        part.rename(self.folder / f"epoch-{int(row['epoch']):05d}")
        for path in previous:
            shutil.rmtree(path)


class RayCheckpoint(Protocol):
    """The part of Ray's Checkpoint that `local_folder` uses; the loop itself does not import Ray."""

    def as_directory(self) -> AbstractContextManager[str]:
        """A local folder, which may be a copy."""
        ...


@contextlib.contextmanager
def local_folder(checkpoint: RayCheckpoint | None) -> Iterator[Path | None]:
    """A checkpoint of Ray as a local folder, or None."""
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder)
